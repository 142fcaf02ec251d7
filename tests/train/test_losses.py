"""The chunked loss equals the plain one, and all supervised tokens of a step have the same weight."""

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from resonance.engine.kernels import cross_entropy
from resonance.model import GPT2, GPT2Config
from train.losses import IGNORE, chunk_for, supervised_loss
from train.sampled_softmax import Candidates, SampledSoftmax
from train.sft_module import SFTModule

TINY = GPT2Config(vocab_size=61, context_length=16, n_layer=1, n_head=2, n_embd=8, dropout=0.0)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("autocast", [False, True])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(chunk: int, autocast: bool) -> None:
    torch.manual_seed(0)
    labels = torch.where(torch.rand(3, 7) < 0.4, torch.randint(0, 61, (3, 7)), torch.tensor(IGNORE))
    values = []
    for plain in (True, False):
        torch.manual_seed(1)
        hidden = torch.randn(3, 7, 8, requires_grad=True)
        weight = torch.randn(61, 8, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if plain:
                logits = F.linear(hidden, weight).float()
                loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum")
            else:
                loss, count = supervised_loss(hidden, weight, labels, chunk=chunk)
                assert count == int((labels != IGNORE).sum())
        (loss * 0.5).backward()
        assert hidden.grad is not None and weight.grad is not None
        values.append((loss.detach(), hidden.grad, weight.grad))
    tolerance = {"rtol": 0.03, "atol": 0.05} if autocast else {"rtol": 1e-5, "atol": 1e-5}
    for ours, theirs in zip(values[1], values[0], strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


class HeapStatistics(ctypes.Structure):
    """What glibc's mallinfo2(3) returns, in bytes."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )
    hblkhd: int
    uordblks: int


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library does not count its memory")
def test_batches_of_ever_other_numbers_of_supervised_tokens_do_not_fill_the_memory() -> None:
    library, weight = ctypes.CDLL(None), torch.randn(4096, 64, requires_grad=True)
    library.mallinfo2.restype = HeapStatistics

    def bytes_in_use_after(counts: range) -> int:
        for count in counts:
            labels = torch.full((1, 512), IGNORE)
            labels[0, :count] = 1
            with torch.autocast("cpu", torch.bfloat16):
                supervised_loss(torch.randn(1, 512, 64, requires_grad=True), weight, labels)[0].backward()
            weight.grad = None
        statistics: HeapStatistics = library.mallinfo2()
        return statistics.uordblks + statistics.hblkhd

    before = bytes_in_use_after(range(1, 513, 8))
    assert bytes_in_use_after(range(2, 513, 2)) < before + 20e6  # 287 MB where each number had compiled products


def test_a_second_backward_pass_is_refused_since_the_first_used_the_gradients_up() -> None:
    hidden, weight = torch.randn(1, 4, 16, requires_grad=True), torch.randn(32, 16, requires_grad=True)
    loss, _ = supervised_loss(hidden, weight, torch.tensor([[1, 2, 3, 4]]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_batch_without_supervised_tokens_learns_nothing_and_breaks_nothing() -> None:
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    weight = torch.randn(61, 8, requires_grad=True)
    loss, count = supervised_loss(hidden, weight, torch.full((1, 4), IGNORE))
    loss.backward()
    assert (loss.item(), count) == (0.0, 0)
    assert weight.grad is not None and not weight.grad.any()


def batch(rows: int, supervised: int) -> dict[str, torch.Tensor]:
    """Rows of 8 tokens of which the last `supervised` are to be learned."""
    ids = torch.randint(0, 61, (rows, 8))
    labels = torch.full((rows, 8), IGNORE)
    labels[:, 8 - supervised :] = torch.randint(0, 61, (rows, supervised))
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": torch.arange(8).repeat(rows, 1),
        "document_ids": torch.zeros(rows, 8, dtype=torch.long),
    }


def joined(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {key: torch.cat([one[key] for one in batches]) for key in batches[0]}


def trained(batches: list[dict[str, torch.Tensor]], accumulate: int, folder: Path) -> SFTModule:
    """A model after one epoch of plain gradient descent over the batches."""
    torch.manual_seed(0)
    module = SFTModule(
        GPT2(TINY),
        lambda model: SGD(model.parameters(), lr=0.5),
        lambda optimizer, steps: LambdaLR(optimizer, lambda step: 1.0),
        seed=0,
    )
    trainer = Trainer(
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return module


def test_splitting_a_batch_into_micro_batches_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(3)
    parts = [batch(1, 1), batch(2, 7), batch(1, 3)]  # of very different numbers of supervised tokens
    split, whole = trained(parts, 3, tmp_path), trained([joined(parts)], 1, tmp_path)
    assert split.step_loss == pytest.approx(whole.step_loss, rel=1e-5)
    for ours, theirs in zip(split.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_last_step_of_fewer_micro_batches_is_a_mean_as_well(tmp_path: Path) -> None:
    torch.manual_seed(3)
    first, last = [batch(1, 2), batch(1, 5)], [batch(2, 4)]
    split = trained([*first, *last], 2, tmp_path)
    whole = trained([joined(first), *last], 1, tmp_path)
    assert split.step_loss == pytest.approx(whole.step_loss, rel=1e-4)
    for ours, theirs in zip(split.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_training_runs_the_models_forward_which_wrappers_and_hooks_see() -> None:
    model = GPT2(TINY)
    calls: list[object] = []
    model.register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
    module = SFTModule(
        model,
        lambda model: SGD(model.parameters()),
        lambda optimizer, steps: LambdaLR(optimizer, lambda step: 1.0),
        seed=0,
    )
    module.validation_step(module.prepare(batch(2, 3), training=False), 0)
    assert calls == [(2, 8, TINY.n_embd)]


def test_a_softmax_over_all_tokens_sampled_is_the_whole_one() -> None:
    torch.manual_seed(0)
    used = torch.tensor([3, 5, 8, 60])
    labels = used[torch.randint(0, 4, (2, 6))]
    values = []
    for candidates in (None, SampledSoftmax(used, 61, 57).sample(torch.device("cpu"), 64)):
        torch.manual_seed(1)
        hidden, weight = torch.randn(2, 6, 8, requires_grad=True), torch.randn(61, 8, requires_grad=True)
        loss, count = supervised_loss(hidden, weight, labels, candidates)
        loss.backward()
        assert count == 12
        values.append((loss.detach(), hidden.grad, weight.grad))
    for sampled, whole in zip(values[1], values[0], strict=True):
        torch.testing.assert_close(sampled, whole, rtol=1e-5, atol=1e-5)


def test_sampled_tokens_stand_for_all_that_are_not_sampled() -> None:
    """Over many draws, the sum of exponentials that a target is held against has the whole sum as its mean."""
    torch.manual_seed(0)
    used, label = torch.tensor([3, 5]), torch.tensor([[5]])
    hidden, weight = torch.randn(1, 1, 8), torch.randn(61, 8)
    softmax = SampledSoftmax(used, 61, 20)

    def denominator(candidates: Candidates | None) -> float:
        loss, _ = supervised_loss(hidden, weight, label, candidates)
        return float((loss + hidden[0, 0] @ weight[5]).exp())

    drawn = torch.tensor([denominator(softmax.sample(torch.device("cpu"), 64)) for _ in range(3000)])
    assert drawn.std() > 0
    assert float(drawn.mean()) == pytest.approx(denominator(None), rel=0.03)


def test_without_samples_only_the_datas_own_tokens_are_candidates() -> None:
    candidates = SampledSoftmax(torch.tensor([3, 5]), 61, 0).sample(torch.device("cpu"), 64)
    assert candidates.token_ids.tolist() == [3, 5]
    assert candidates.indices[torch.tensor([3, 5, 6])].tolist() == [0, 1, -1]


@pytest.mark.parametrize("sampled", [False, True])
def test_new_rows_have_the_gradient_that_they_have_in_the_whole_head(sampled: bool) -> None:
    torch.manual_seed(0)
    labels = torch.randint(50, 61, (2, 7))
    drawn = SampledSoftmax(torch.arange(50, 61), 61, 20).sample(torch.device("cpu"), 58) if sampled else None
    hidden, weight = torch.randn(2, 7, 8), torch.randn(61, 8)
    weights, values = torch.rand(2, 7), []
    for apart in (True, False):
        states, rows, head = hidden.clone().requires_grad_(), weight[58:].clone().requires_grad_(), weight[:58]
        given = (head, rows) if apart else (torch.cat([head, rows]), None)
        candidates = drawn if drawn is None or apart else replace(drawn, new=0)
        loss, _ = supervised_loss(
            states, given[0], labels, candidates, new_rows=given[1], weights=weights, label_smoothing=0.1, chunk=5
        )
        loss.backward()
        assert states.grad is not None and rows.grad is not None
        values.append((loss.detach(), states.grad, rows.grad))
    for ours, theirs in zip(*values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_gpus_positions_with_logits_at_once_follow_its_memory() -> None:
    assert chunk_for(8 * 10**9, 50_257) == 256  # 129 MB
    assert chunk_for(24 * 10**9, 50_257) == 1024
    assert chunk_for(140 * 10**9, 50_257) == 8192
    assert chunk_for(10**9, 50_257) == 256


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_that_a_gpu_computes_is_the_plain_one(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "kernel", lambda: None)  # the CPU's alone
    torch.manual_seed(0)
    labels = torch.randint(0, 61, (2, 7)).masked_fill(torch.rand(2, 7) < 0.4, IGNORE)
    hidden, weight, weights = torch.randn(2, 7, 8), torch.randn(61, 8), torch.rand(2, 7)
    values: list[tuple[torch.Tensor, ...]] = []
    for chunked in (True, False):
        states, head = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if chunked:
            loss, _ = supervised_loss(
                states, head, labels, weights=weights, label_smoothing=smoothing, chunk=3,
                supervised_at=torch.nonzero(labels.flatten() != IGNORE)[:, 0],
            )  # fmt: skip
        else:
            logits = (states @ head.T).flatten(0, 1)
            each = F.cross_entropy(logits, labels.flatten(), label_smoothing=smoothing, reduction="none")
            loss = (each * weights.flatten()).sum()
        loss.backward()
        assert states.grad is not None and head.grad is not None
        values.append((loss.detach(), states.grad, head.grad))
    for ours, theirs in zip(*values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
