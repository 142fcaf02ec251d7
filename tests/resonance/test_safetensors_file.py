"""Safetensors files with the same bytes for the same content."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from resonance.checkpoint import Checkpoint
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer
from resonance.weights import safetensors_file


def test_equal_tensors_and_metadata_make_equal_files(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3, dtype=torch.bfloat16)}
    metadata = {"name": 'Zürich "\\\n\x1f\x7f', **{str(number): str(number) for number in range(16)}}
    for path in (first := tmp_path / "first", second := tmp_path / "second"):
        safetensors_file.write(tensors, path, metadata)
    assert first.read_bytes() == second.read_bytes()
    with safe_open(first, "pt") as file:
        assert file.metadata() == metadata
    loaded = load_file(first)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_the_weights_of_a_model_that_is_saved_again_have_the_same_hash(tmp_path: Path) -> None:
    model = GPT2(GPT2Config(n_layer=1, n_head=1, n_embd=4, context_length=8))
    files = [Checkpoint.save(tmp_path / str(n), model, Tokenizer.gpt2()).folder / "model.safetensors" for n in range(6)]
    assert len({file.read_bytes() for file in files}) == 1
