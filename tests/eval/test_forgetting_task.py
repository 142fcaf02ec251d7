"""What a fine-tuned checkpoint forgot is its loss on general text minus its base's, segment by segment."""

from pathlib import Path

import pytest
import torch

from eval.evaluate import Result, evaluate
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Record
from eval.tasks.forgetting import Forgetting
from eval.tasks.text import Text
from resonance.checkpoint import Checkpoint
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.provenance import sha256_of_weights
from resonance.tokenizer import Tokenizer

PROSE = Path(__file__).parents[2] / "eval" / "corpora" / "prose"
TEXTS = [str(PROSE / name) for name in ("bees.md", "moon.md", "tides.md")]
CONFIG = GPT2Config(context_length=64, n_layer=1, n_head=2, n_embd=32, dropout=0.0)


def load(checkpoint: Checkpoint) -> EvaluatedModel:
    return EvaluatedModel.load("model", checkpoint, batch_size=4, dtype="fp32", quantize=None)


def run(task: Text | Forgetting, checkpoint: Checkpoint) -> Result:
    return evaluate(load(checkpoint), {"task": task}, ()).results["task"]


def value(result: Result, name: str) -> float:
    assert result.error is None
    return result.metrics()[None, name].value()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    """A base model, and one with changed weights whose metadata name it."""
    root = tmp_path_factory.mktemp("forgetting")
    torch.manual_seed(0)
    model = GPT2(CONFIG)
    base = Checkpoint.save(root / "base", model, Tokenizer.gpt2(), Metadata())
    with torch.no_grad():
        model.head_weight.add_(0.5 * torch.randn_like(model.head_weight))
    metadata = Metadata(base=str(base.folder), base_sha256=sha256_of_weights(base.folder))
    return base, Checkpoint.save(root / "tuned", model, Tokenizer.gpt2(), metadata)


def test_the_loss_is_the_checkpoints_minus_its_bases(pair: tuple[Checkpoint, Checkpoint]) -> None:
    base, tuned = pair
    result = run(Forgetting(TEXTS), tuned)
    own, before = run(Text(TEXTS), tuned), run(Text(TEXTS), base)
    for name in ("perplexity", "word_perplexity", "bits_per_byte"):
        assert value(result, name) == pytest.approx(value(own, name))
        assert value(result, f"base_{name}") == pytest.approx(value(before, name))
    lost = value(own, "bits_per_byte") - value(before, "bits_per_byte")
    assert lost > 0.1
    score = result.metrics()[None, "bits_per_byte_lost"].score()
    assert score.value == pytest.approx(lost)
    assert score.ci95[0] < lost < score.ci95[1]
    assert score.ci95[1] - score.ci95[0] < 0.5 * value(own, "bits_per_byte")


def test_unchanged_weights_have_forgotten_nothing(pair: tuple[Checkpoint, Checkpoint], tmp_path: Path) -> None:
    base, _ = pair
    metadata = Metadata(base=str(base.folder))
    same = Checkpoint.save(tmp_path / "same", base.load_model(), Tokenizer.gpt2(), metadata)
    assert value(run(Forgetting(TEXTS), same), "bits_per_byte_lost") == pytest.approx(0.0, abs=1e-6)


def test_a_model_of_random_weights_says_why_it_does_not_run(pair: tuple[Checkpoint, Checkpoint]) -> None:
    assert run(Forgetting(TEXTS), pair[0]).error == (
        "base was not fine-tuned from other weights, so there is nothing that it could forget."
    )


def test_a_base_that_is_gone_or_changed_says_why_it_does_not_run(
    pair: tuple[Checkpoint, Checkpoint], tmp_path: Path
) -> None:
    base, _ = pair
    model = base.load_model()
    gone = Checkpoint.save(tmp_path / "a", model, Tokenizer.gpt2(), Metadata(base=str(tmp_path / "gone")))
    assert "There is no file or folder" in (run(Forgetting(TEXTS), gone).error or "")
    other = Metadata(base=str(base.folder), base_sha256="0" * 64)
    changed = Checkpoint.save(tmp_path / "b", model, Tokenizer.gpt2(), other)
    assert "no longer has the weights that b was trained from" in (run(Forgetting(TEXTS), changed).error or "")


@pytest.mark.parametrize(("nats", "noted"), [(10.8, False), (10.9, True)])
def test_a_perplexity_worse_than_guessing_is_explained(nats: float, noted: bool) -> None:
    records = [Record("a", {"perplexity": (nats * 7, 7.0)}), Record("b", {})]
    assert [note.startswith("A perplexity above 50,257") for note in Text().notes(records)] == [True] * noted
