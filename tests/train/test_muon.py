"""Muon for the blocks and AdamW for the rest, as one optimiser whose state can be saved and loaded."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW, Muon

from resonance.hydra_config import ConfigError
from resonance.model import GPT2, GPT2Config
from train.muon import orthogonalize
from train.optimizers import muon

SIZES = GPT2Config(vocab_size=11, context_length=8, n_layer=2, n_head=2, n_embd=16, dropout=0.0)


def make(model: GPT2, *, momentum: float = 0.95, adamw_lr: float = 1e-3):
    return muon(
        model,
        lr=0.02,
        momentum=momentum,
        weight_decay=0.1,
        adamw_lr=adamw_lr,
        adamw_betas=(0.9, 0.99),
        adamw_eps=1e-8,
    )


def model_of(seed: int = 0) -> GPT2:
    torch.manual_seed(seed)
    return GPT2(SIZES)


def learn(model: GPT2, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        ids = torch.randint(0, 11, (2, 8), generator=torch.Generator().manual_seed(step))
        model(ids).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_each_part_moves_as_torchs_own_optimisers_move_it() -> None:
    model, reference = model_of(), model_of()
    inside = [p for p in reference.blocks.parameters() if p.dim() == 2]
    outside = [p for p in reference.parameters() if all(p is not other for other in inside)]
    others = [
        Muon(inside, lr=0.02, momentum=0.95, weight_decay=0.1, nesterov=True),
        AdamW([p for p in outside if p.dim() == 2], lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1),
        AdamW([p for p in outside if p.dim() < 2], lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0),
    ]
    ours = make(model)
    for _ in range(3):
        for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)  # has no direction so faint that rounding decides where it goes
            theirs.grad = mine.grad.clone()
        for optimizer in (ours, *others):
            optimizer.step()
    for (name, mine), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-3, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("shape", [(16, 16), (16, 48), (48, 16)])
def test_an_orthogonal_matrix_has_singular_values_near_one_in_the_same_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalize(matrix) @ v.T
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.max() < 1.3
    assert values[:-2].min() > 0.5
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 0.1


def test_no_gradient_makes_no_move() -> None:
    assert torch.equal(orthogonalize(torch.zeros(4, 8)), torch.zeros(4, 8))


def test_a_saved_state_goes_on_to_the_same_weights() -> None:
    whole = model_of()
    optimizer = make(whole)
    learn(whole, optimizer, range(3))
    state: dict[str, Tensor] = deepcopy(whole.state_dict())
    saved = deepcopy(optimizer.state_dict())
    learn(whole, optimizer, range(3, 6))
    resumed = model_of(seed=1)
    resumed.load_state_dict(state)
    other = make(resumed)
    other.load_state_dict(saved)
    learn(resumed, other, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_what_does_not_train_is_left_alone() -> None:
    model = model_of()
    model.requires_grad_(False)
    model.blocks[0].attention.qkv.weight.requires_grad_(True)
    (group,) = make(model).param_groups
    assert len(group["params"]) == 1


def test_settings_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"optimizer.momentum must be .* not 1.0"):
        make(model_of(), momentum=1.0)
    with pytest.raises(ConfigError, match=r"optimizer.adamw_lr must be more than 0"):
        make(model_of(), adamw_lr=0.0)
