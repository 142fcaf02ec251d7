"""Engines made from checkpoints on disk: what is asked for, what is refused, what is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resonance.chat_template import ChatTemplate
from resonance.checkpoint import MODEL_FILE, Checkpoint, CheckpointError
from resonance.engine import Engine, EngineError, SamplingParams
from resonance.errors import ResonanceError
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config


def save(folder: Path, template: str = "alpaca", n_layer: int = 2) -> Checkpoint:
    torch.manual_seed(n_layer)
    tokenizer = ChatTemplate.named(template).tokenizer
    sizes = GPT2Config(vocab_size=tokenizer.vocab_size, context_length=64, n_layer=n_layer, n_head=2, n_embd=32)
    return Checkpoint.save(folder, GPT2(sizes), tokenizer, Metadata(template=template))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize(
    ("dtype", "quantize", "precision"),
    [("fp32", None, "fp32"), ("bf16", None, "bf16"), ("fp32", "int8", "int8"), ("auto", "int4", "int4")],
)
def test_the_engine_computes_in_the_precision_asked_for(
    checkpoint: Checkpoint, dtype: str, quantize: str | None, precision: str
) -> None:
    engine = Engine.from_checkpoint(checkpoint, dtype=dtype, quantize=quantize, max_batch_size=2)
    stats = engine.stats()
    assert (stats.precision, stats.slots) == (precision, 2)
    assert stats.load_seconds > 0
    pair = ([1, 2, 3], [4, 5, 6])
    exact = Engine(checkpoint.load_model()).score([pair])[0]
    assert engine.score([pair])[0] == pytest.approx(exact, abs=1e-4 if precision == "fp32" else 0.1)


def test_auto_is_one_of_the_unquantised_precisions_and_a_name_does(checkpoint: Checkpoint) -> None:
    assert Engine.from_checkpoint(str(checkpoint.folder)).stats().precision in ("fp32", "bf16")


@pytest.mark.parametrize("name", ["alpaca", "chatml"])
def test_the_templates_end_token_ends_a_text(tmp_path: Path, name: str) -> None:
    checkpoint = save(tmp_path / name, name)
    engine = Engine.from_checkpoint(checkpoint, dtype="fp32")
    end = ChatTemplate.named(name, checkpoint.load_tokenizer()).end_id
    assert end in engine.eos_ids
    done = engine.generate([[1, 2]], SamplingParams(max_new_tokens=3, forced_token_ids=(5, end)))[0]
    assert (done.token_ids, done.finish_reason) == ([5], "stop")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "fp16"}, "dtype must be one of auto, fp32, bf16, not 'fp16'"),
        ({"quantize": "int3"}, "quantize must be one of None, int8, int4, not 'int3'"),
        ({"max_batch_size": 0}, "max_batch_size must be at least 1, not 0"),
        ({"device": "abacus"}, "There is no device 'abacus'"),
        ({"device": "mps"}, "device=mps is refused: sampling needs float64"),
        ({"device": "meta"}, "device=meta is refused: the engine computes on cpu and cuda"),
    ],
)
def test_what_the_engine_does_not_know_is_refused_in_a_sentence(
    checkpoint: Checkpoint, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(EngineError, match=message) as refused:
        Engine.from_checkpoint(checkpoint, **{"dtype": "fp32", **wrong})
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU on this machine")
def test_a_gpu_that_is_not_there_is_refused_in_a_sentence(checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineError, match="There is no device 'cuda' to compute on"):
        Engine.from_checkpoint(checkpoint, dtype="fp32", device="cuda")


def test_a_checkpoint_that_is_not_there_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint 'nowhere'"):
        Engine.from_checkpoint("nowhere")
    path = save(tmp_path / "run").folder / MODEL_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ResonanceError, match="damaged or cut short"):
        Engine.from_checkpoint(str(path.parent), dtype="fp32")
    path.write_bytes(whole[:-100] + bytes(byte ^ 1 for byte in whole[-100:]))
    with pytest.raises(CheckpointError, match="checksum"):
        Engine.from_checkpoint(str(path.parent), dtype="fp32")


def test_a_draft_checkpoint_writes_ahead(checkpoint: Checkpoint, tmp_path: Path) -> None:
    draft = save(tmp_path / "draft", n_layer=1)
    params = SamplingParams(max_new_tokens=10, temperature=0)
    engine = Engine.from_checkpoint(checkpoint, dtype="fp32", draft=str(draft.folder))
    plain = Engine.from_checkpoint(checkpoint, dtype="fp32")
    assert engine.generate([[1, 2, 3]], params) == plain.generate([[1, 2, 3]], params)
    assert engine.stats().drafted_tokens > 0
    with pytest.raises(EngineError, match="draft has a vocabulary of"):
        Engine.from_checkpoint(checkpoint, dtype="fp32", draft=save(tmp_path / "other", "chatml"))


def test_the_library_behind_grammars_and_torchs_compiler_are_loaded_when_they_are_needed() -> None:
    program = (
        "import sys, resonance.engine; raise SystemExit(not {'llguidance', 'torch._dynamo'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
