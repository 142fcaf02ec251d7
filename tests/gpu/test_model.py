"""The model on a GPU against the CPU."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.gpu.conftest import SMALL, random_model


@pytest.mark.parametrize("packed", [False, True])
def test_logits_and_gradients_are_those_of_the_cpu(device: torch.device, packed: bool) -> None:
    reference = random_model()
    model = copy.deepcopy(reference).to(device)
    ids = torch.randint(SMALL.vocab_size, (3, 200), generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[0] * 50 + [1] * 120 + [2] * 30] * 3) if packed else None
    positions = torch.cat([torch.arange(n) for n in (50, 120, 30)]).expand(3, -1) if packed else None
    losses: list[torch.Tensor] = []
    for one in (reference, model):
        place = one.head_weight.device
        logits = one(
            ids.to(place),
            position_ids=None if positions is None else positions.to(place),
            document_ids=None if documents is None else documents.to(place),
        )
        losses.append(logits)
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten().to(place)).backward()
    torch.testing.assert_close(losses[1].cpu(), losses[0], atol=1e-4, rtol=1e-4)
    for (name, expected), parameter in zip(reference.named_parameters(), model.parameters(), strict=True):
        assert expected.grad is not None
        assert parameter.grad is not None
        torch.testing.assert_close(
            parameter.grad.cpu(), expected.grad, atol=1e-4, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_bf16_stays_near_fp32(device: torch.device) -> None:
    reference = random_model()
    model = copy.deepcopy(reference).to(device, torch.bfloat16)
    ids = torch.randint(SMALL.vocab_size, (2, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, logits = reference(ids), model(ids.to(device)).float().cpu()
    assert (logits - expected).abs().mean() < 0.02 * expected.abs().mean()
