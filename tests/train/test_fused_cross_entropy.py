"""The C++ kernel of the loss computes what the torch path does."""

import math

import pytest
import torch
from torch.nn import functional as F

from resonance.engine.kernels import cross_entropy
from train.losses import supervised_loss
from train.sampled_softmax import Candidates


@pytest.fixture(autouse=True)
def needs_kernel() -> None:
    if cross_entropy.kernel() is None:
        pytest.skip("no C++ compiler on this machine")


def loss_and_gradients(smoothing: float, weighted: bool, sampled: bool, autocast: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 9, 16, requires_grad=True), torch.randn(150, 16, requires_grad=True)
    labels = torch.randint(0, 100, (2, 9))
    candidates = Candidates(torch.arange(101), torch.rand(101), torch.arange(150)) if sampled else None
    weights = torch.rand(2, 9) if weighted else None
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss, _ = supervised_loss(hidden, head, labels, candidates, weights=weights, label_smoothing=smoothing, chunk=5)
    loss.backward()
    assert hidden.grad is not None and head.grad is not None
    return [loss.detach(), hidden.grad, head.grad]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_kernel_and_torch_give_the_same_loss_and_gradients(
    smoothing: float, weighted: bool, sampled: bool, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_kernel = loss_and_gradients(smoothing, weighted, sampled, autocast)
    monkeypatch.setattr(cross_entropy, "kernel", lambda: None)
    by_torch = loss_and_gradients(smoothing, weighted, sampled, autocast)
    rtol, atol = (0.02, 0.03) if autocast else (1e-5, 1e-5)
    for ours, theirs in zip(by_kernel, by_torch, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def test_padding_has_no_part_in_the_loss_and_no_gradient() -> None:
    logits = torch.full((3, 64), 9.0)  # padding that would win the softmax
    logits[:, :50] = torch.randn(3, 50)
    expected = F.cross_entropy(logits[:, :50], torch.tensor([0, 25, 49]), reduction="none")
    losses = cross_entropy.cross_entropy_(logits, 50, torch.tensor([0, 25, 49]))
    torch.testing.assert_close(losses, expected)
    assert not logits[:, 50:].any()
    torch.testing.assert_close(logits.sum(1), torch.zeros(3), atol=1e-6, rtol=0)


def test_without_gradient_the_logits_stay() -> None:
    logits = torch.randn(2, 64)
    before = logits.clone()
    cross_entropy.cross_entropy_(logits, 64, torch.tensor([1, 2]), gradient=False)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_row_with_a_logit_that_is_not_finite_has_a_loss_that_is_not(broken: float) -> None:
    logits = torch.randn(2, 64)
    logits[1, 40] = broken
    losses = cross_entropy.cross_entropy_(logits, 64, torch.tensor([1, 2]))
    assert torch.isfinite(losses).tolist() == [True, False]


def test_a_rows_loss_is_the_same_bits_in_any_chunk_and_on_any_number_of_threads() -> None:
    logits, targets = torch.randn(7, 160).bfloat16(), torch.arange(7)
    threads = torch.get_num_threads()
    whole = cross_entropy.cross_entropy_(logits.clone(), 150, targets)
    try:
        torch.set_num_threads(3)
        parts = [cross_entropy.cross_entropy_(logits[i : i + 2].clone(), 150, targets[i : i + 2]) for i in (0, 2, 4, 6)]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.cat(parts), whole)
