"""`make bench-gpu`: what it measures and writes, on the CPU, and its refusal to call that a GPU."""

from pathlib import Path

import pytest
import torch

from resonance.bench import gpu
from resonance.checkpoint import Checkpoint
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

SMALL = GPT2Config(vocab_size=50257, context_length=1024, n_layer=1, n_head=2, n_embd=32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU on this machine")
def test_without_a_gpu_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert "no CUDA GPU" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("what", ["decode", "prefill"])
def test_a_measurement_is_made_by_a_process_of_its_own(tmp_path: Path, what: str) -> None:
    folder = Checkpoint.save(tmp_path / "small", GPT2(SMALL), Tokenizer.gpt2()).folder
    figures = gpu._in_process(what=what, who="resonance", precision="bf16", folder=str(folder), batch=2, device="cpu")
    assert len(figures["tokens_per_s"]) == gpu.REPEATS
    assert min(figures["tokens_per_s"]) > 0


@pytest.mark.slow
def test_a_failed_measurement_leaves_its_reason_in_the_table(tmp_path: Path) -> None:
    figures = gpu._in_process(
        what="decode", who="resonance", precision="bf16", folder=str(tmp_path), batch=2, device="cpu"
    )
    assert figures["error"]
    row = ("decode", "gpt2", "resonance bf16", "2", figures["error"], "", "")
    assert gpu.table([row]).count("\n") == 3


def test_the_card_is_measured_and_sets_the_limits() -> None:
    card = gpu.measure_card("cpu")
    assert card.bandwidth > 1e8
    assert card.matmul > 1e8
    one, many = (gpu._limit(card, SMALL, "decode", "bf16", batch) for batch in (1, 8))
    assert one < many < 8 * one
    assert gpu._limit(card, SMALL, "decode", "int8", 1) > one
