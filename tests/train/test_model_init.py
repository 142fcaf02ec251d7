"""Initial weights, and the longest sequence that they have been trained on."""

from pathlib import Path

from resonance import GPT2, Checkpoint, GPT2Config, Tokenizer
from resonance.chat_template import ChatTemplate
from resonance.metadata import Metadata
from train.model_init import init_model

SIZES = GPT2Config(context_length=64, n_layer=1, n_head=1, n_embd=8)


def length_of(base: Path | None) -> int:
    return init_model(base, SIZES, ChatTemplate.named("chatml"), seed=1).trained_length


def test_random_weights_have_learned_from_nothing() -> None:
    assert length_of(None) == 0


def test_weights_bring_the_length_that_they_were_trained_on(tmp_path: Path) -> None:
    Checkpoint.save(tmp_path, GPT2(SIZES), Tokenizer.gpt2(), Metadata(trained_length=40))
    assert length_of(tmp_path) == 40


def test_pretrained_weights_have_learned_from_texts_as_long_as_their_context(tmp_path: Path) -> None:
    Checkpoint.save(tmp_path, GPT2(SIZES), Tokenizer.gpt2())
    (tmp_path / "resonance.json").unlink()
    assert length_of(tmp_path) == 64
