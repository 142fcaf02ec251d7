"""The losses of preference training on cases computed by hand, and the log-probabilities that they are made from."""

import math

import pytest
import torch
from torch.nn import functional as F

from train.losses import IGNORE
from train.preference_losses import dpo_losses, kto_losses, sequence_log_probs


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("autocast", [False, True])
def test_log_probabilities_and_gradients_are_those_of_a_plain_softmax(chunk: int, autocast: bool) -> None:
    torch.manual_seed(0)
    labels = torch.where(torch.rand(4, 7) < 0.4, torch.randint(0, 61, (4, 7)), torch.tensor(IGNORE))
    labels[2] = IGNORE
    values = []
    for plain in (True, False):
        torch.manual_seed(1)
        hidden = torch.randn(4, 7, 8, requires_grad=True)
        weight = torch.randn(61, 8, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if plain:
                log_probs = F.linear(hidden, weight).float().log_softmax(-1)
                of_labels = log_probs.gather(2, labels.clamp(min=0)[..., None])[..., 0]
                sums = torch.where(labels == IGNORE, 0.0, of_labels).sum(1)
            else:
                sums = sequence_log_probs(hidden, weight, labels, chunk=chunk)
        (sums * torch.tensor([0.5, -1.0, 3.0, 2.0])).sum().backward()
        values.append((sums.detach(), hidden.grad, weight.grad))
    assert values[1][0][2] == 0
    relative, absolute = (0.05, 0.1) if autocast else (1e-5, 1e-5)
    for ours, theirs in zip(values[1], values[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=relative, atol=absolute)


def test_the_loss_of_a_pair_is_that_of_its_margin() -> None:
    losses = dpo_losses(torch.tensor([0.0, math.log(3), 0.0]), torch.tensor([0.0, 0.0, math.log(3)]))
    assert losses.tolist() == pytest.approx([math.log(2), -math.log(3 / 4), -math.log(1 / 4)])


def test_smoothed_labels_count_a_pair_the_wrong_way_round_as_well() -> None:
    [loss] = dpo_losses(torch.tensor([math.log(3)]), torch.tensor([0.0]), 0.2).tolist()
    assert loss == pytest.approx(-0.8 * math.log(3 / 4) - 0.2 * math.log(1 / 4))


def test_the_loss_of_a_vote_is_measured_from_the_reference_point() -> None:
    rewards, desirable = torch.tensor([math.log(6), math.log(6), math.log(2)]), torch.tensor([True, False, True])
    losses = kto_losses(rewards, desirable, torch.tensor(math.log(2)), 1.0, 2.0)
    assert losses.tolist() == pytest.approx([1 - 3 / 4, 2 * (1 - 1 / 4), 1 - 1 / 2])
