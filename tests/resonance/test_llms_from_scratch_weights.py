import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from resonance.model import GPT2
from resonance.weights import WeightsError, read

REFERENCE = "book-gpt2-tiny"


class Config:
    """What a whole pickled model drags along: a class of somebody's code."""


@pytest.fixture
def tensors(shared_data: Path) -> dict[str, Tensor]:
    return dict(torch.load(shared_data / REFERENCE / "model.pth", weights_only=True))


def logits_of(model: GPT2, shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    expected = np.load(shared_data / REFERENCE / "expected.npz")
    with torch.no_grad():
        return model(torch.from_numpy(expected["input_ids"]).long()).numpy(), expected["logits"]


@pytest.mark.parametrize("path", ["", "model.pth"])
def test_logits_equal_those_of_the_books_own_model(shared_data: Path, path: str):
    model = GPT2.from_pretrained(shared_data / REFERENCE / path, n_head=3)
    assert not model.config.tie_weights
    logits, expected = logits_of(model, shared_data)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_the_settings_beside_the_file_tell_the_head_count_of_a_folder(shared_data: Path):
    config, _ = read(shared_data / REFERENCE)
    assert (config.n_head, config.dropout, config.context_length, config.vocab_size) == (3, 0.0, 48, 307)


def test_without_settings_a_head_is_64_wide(tmp_path: Path):
    width, names = 128, {"tok_emb.weight": (11, 128), "pos_emb.weight": (8, 128), "out_head.weight": (11, 128)}
    shapes: dict[str, tuple[int, ...]] = names | {"final_norm.scale": (128,), "final_norm.shift": (128,)}
    for part in ("W_query", "W_key", "W_value", "out_proj"):
        shapes[f"trf_blocks.0.att.{part}.weight"] = (width, width)
    shapes["trf_blocks.0.att.out_proj.bias"] = (width,)
    shapes |= {f"trf_blocks.0.norm{n}.{part}": (width,) for n in (1, 2) for part in ("scale", "shift")}
    shapes |= {"trf_blocks.0.ff.layers.0.weight": (512, 128), "trf_blocks.0.ff.layers.0.bias": (512,)}
    shapes |= {"trf_blocks.0.ff.layers.2.weight": (128, 512), "trf_blocks.0.ff.layers.2.bias": (128,)}
    torch.save({name: torch.randn(shape) for name, shape in shapes.items()}, tmp_path / "model.pth")
    config, state = read(tmp_path)
    assert (config.n_head, config.n_layer, config.n_embd) == (2, 1, 128)
    assert state["blocks.0.attention.qkv.bias"].equal(torch.zeros(384))  # qkv_bias=False


def test_a_width_that_tells_no_head_count_asks_for_one(shared_data: Path):
    with pytest.raises(WeightsError, match=r"48 wide, which is not a multiple of 64.*give n_head"):
        read(shared_data / REFERENCE / "model.pth")
    with pytest.raises(WeightsError, match=r"n_embd \(48\) must be a multiple of n_head \(5\)"):
        read(shared_data / REFERENCE, n_head=5)


def test_a_head_that_equals_the_embedding_is_tied(tensors: dict[str, Tensor], tmp_path: Path):
    tensors["out_head.weight"] = tensors["tok_emb.weight"].clone()
    torch.save(tensors, tmp_path / "model.pth")
    config, state = read(tmp_path, n_head=3)
    assert config.tie_weights and "head.weight" not in state


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_with_the_optimiser_and_torchs_older_format_are_read(
    tensors: dict[str, Tensor], shared_data: Path, tmp_path: Path, old_format: bool
):
    content = {"model_state_dict": tensors, "optimizer_state_dict": {"state": {}, "param_groups": []}}
    torch.save(content, tmp_path / "both.pt", _use_new_zipfile_serialization=not old_format)
    logits, expected = logits_of(GPT2.from_pretrained(tmp_path / "both.pt", n_head=3), shared_data)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_changing_the_tensors_never_changes_the_file(tensors: dict[str, Tensor], tmp_path: Path):
    torch.save(tensors, tmp_path / "model.pth")
    before = (tmp_path / "model.pth").read_bytes()
    for value in read(tmp_path, n_head=3)[1].values():
        value.zero_()
    assert (tmp_path / "model.pth").read_bytes() == before


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_of_anything_but_tensors_is_refused_in_one_sentence(tmp_path: Path):
    torch.save({"model": Config()}, tmp_path / "whole.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Config()}))
    for name, why in (("whole", r"holds more than tensors \(\S+Config"), ("plain", "is damaged or no state dict")):
        with pytest.raises(WeightsError, match=rf"{name}\.pth {why}.*not opened; save .* state_dict\(\)") as caught:
            read(tmp_path / f"{name}.pth", n_head=3)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], {"a": 1}, torch.ones(3), {}, "text", {"tok_emb.weight": torch.ones(3)}]
)
def test_a_file_without_the_books_tensors_is_refused(content: object, tmp_path: Path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"model\.pth"):
        read(tmp_path / "model.pth", n_head=3)


@pytest.mark.parametrize("keep", [0, 1, 10, 1000, -1, -300])
def test_a_file_that_is_cut_short_is_named(shared_data: Path, tmp_path: Path, keep: int):
    (tmp_path / "model.pth").write_bytes((shared_data / REFERENCE / "model.pth").read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model\.pth is damaged") as caught:
        read(tmp_path / "model.pth", n_head=3)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_file_of_torch_are_refused(tmp_path: Path):
    (tmp_path / "model.pth").write_bytes(b"\x00\x01 not torch" * 99)
    with pytest.raises(WeightsError, match=r"model\.pth"):
        read(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("trf_blocks.1.att.W_key.bias"), r"trf_blocks\.1\.att\.W_key\.bias is missing"),
        (lambda t: t.pop("trf_blocks.1.att.W_key.weight"), r"trf_blocks\.1\.att\.W_key\.weight is missing"),
        (lambda t: t.pop("out_head.weight"), r"out_head\.weight is missing"),
        (lambda t: t.pop("pos_emb.weight"), r"pos_emb\.weight is missing"),
        (lambda t: t.update({"final_norm.scale": torch.ones(47)}), r"final_norm\.scale .* shape \(47,\), not \(48,\)"),
        (lambda t: t.update({"out_head.weight": torch.ones(3, 48)}), r"out_head\.weight .* shape \(3, 48\)"),
        (lambda t: t.update({"tok_emb.weight": torch.ones(48)}), r"tok_emb\.weight .* not that of a matrix"),
        (lambda t: t.update({"final_norm.scale": torch.ones(48).int()}), r"final_norm\.scale .* torch\.int32"),
    ],
)
def test_a_missing_or_misshapen_tensor_is_named(
    tensors: dict[str, Tensor], tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
):
    change(tensors)
    torch.save(tensors, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=message):
        read(tmp_path / "model.pth", n_head=3)


def test_settings_that_are_no_settings_are_named(tensors: dict[str, Tensor], tmp_path: Path):
    torch.save(tensors, tmp_path / "model.pth")
    for content, message in (("{", "cannot be read as JSON"), ('{"n_heads": "3"}', "number for 'n_heads', not '3'")):
        (tmp_path / "settings.json").write_text(content)
        with pytest.raises(WeightsError, match=message):
            read(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({"n_heads": 3}))
    assert read(tmp_path)[0].n_head == 3


def test_a_folder_of_several_files_asks_which(tensors: dict[str, Tensor], tmp_path: Path):
    torch.save(tensors, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"one \.pth file, but holds a\.pth, b\.pth; name the file itself"):
        read(tmp_path)
