import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel, GPT2Model

from resonance.model import GPT2, GPT2Config
from resonance.weights import WeightsError, huggingface, read

SIZES = {"vocab_size": 97, "n_positions": 24, "n_layer": 2, "n_head": 2, "n_embd": 16}
IDS = torch.arange(46).view(2, 23)


def their_model(**changes: Any) -> GPT2LMHeadModel:
    torch.manual_seed(2)
    model = GPT2LMHeadModel(TheirConfig(**SIZES, bos_token_id=1, eos_token_id=1, **changes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def our_model(tied: bool = True) -> GPT2:
    torch.manual_seed(3)
    model = GPT2(GPT2Config(97, 24, 2, 2, 16, tie_weights=tied)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    tensors = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(change(tensors), folder / "model.safetensors")


def configure(folder: Path, **changes: object) -> None:
    settings = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = our_model()
    huggingface.write(tmp_path, model.config, model.state_dict())
    return tmp_path


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_of_a_transformers_model_are_ours(tmp_path: Path, tied: bool):
    theirs = their_model(tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path)
    ours = GPT2.from_pretrained(tmp_path)
    assert ours.config.tie_weights is tied
    torch.testing.assert_close(ours(IDS), theirs(IDS).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_transformers_opens_what_we_write_as_it_is(tmp_path: Path, tied: bool):
    ours = our_model(tied)
    huggingface.write(tmp_path, ours.config, ours.state_dict())
    theirs, report = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(theirs.eval()(IDS).logits, ours(IDS), atol=1e-4, rtol=0)
    assert (theirs.lm_head.weight.data_ptr() == theirs.transformer.wte.weight.data_ptr()) is tied


@torch.no_grad()
def test_a_base_model_without_prefix_and_with_masks_is_read(tmp_path: Path):
    theirs = their_model()
    GPT2Model.save_pretrained(theirs.transformer, tmp_path)
    rewrite(tmp_path, lambda tensors: tensors | {"h.0.attn.bias": torch.ones(1, 1, 24, 24).tril().bool()})
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(GPT2.from_pretrained(tmp_path)(IDS), theirs(IDS).logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_model_in_shards_is_read_and_a_missing_shard_named(tmp_path: Path):
    theirs = their_model()
    theirs.save_pretrained(tmp_path, max_shard_size="8KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    torch.testing.assert_close(GPT2.from_pretrained(tmp_path)(IDS), theirs(IDS).logits, atol=1e-4, rtol=0)
    shards[1].unlink()
    with pytest.raises(WeightsError, match=rf"{shards[1].name} is missing"):
        read(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(WeightsError, match=r"index\.json must give a 'weight_map'"):
        read(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types_are_kept_and_said(tmp_path: Path, dtype: torch.dtype):
    state = {name: value.to(dtype) for name, value in our_model().state_dict().items()}
    huggingface.write(tmp_path, our_model().config, state)
    found = read(tmp_path)[1]
    assert all(found[name].dtype == dtype and found[name].equal(value) for name, value in state.items())
    assert GPT2LMHeadModel.from_pretrained(tmp_path, dtype="auto").dtype == dtype


def test_configuration_and_tensors_go_there_and_back():
    model = our_model(tied=False)
    config, state = huggingface.from_huggingface(*huggingface.to_huggingface(model.config, model.state_dict()))
    assert config == model.config
    assert list(state) == list(model.state_dict())
    assert all(value.equal(model.state_dict()[name]) for name, value in state.items())


def test_changing_the_tensors_never_changes_the_file(folder: Path):
    before = (folder / "model.safetensors").read_bytes()
    for value in read(folder)[1].values():
        value.zero_()
    assert (folder / "model.safetensors").read_bytes() == before


def test_the_weights_may_be_read_by_whoever_may_read_the_config(folder: Path):
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


@pytest.mark.parametrize("declared", [{"tie_word_embeddings": True}, {}])
def test_a_head_that_equals_the_embedding_is_tied_unless_the_config_denies_it(folder: Path, declared: dict[str, bool]):
    settings = json.loads((folder / "config.json").read_text())
    del settings["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(settings | declared))
    rewrite(folder, lambda tensors: tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()})
    assert read(folder)[0].tie_weights
    configure(folder, tie_word_embeddings=False)
    config, state = read(folder)
    assert not config.tie_weights and "head.weight" in state


def test_a_head_that_differs_from_the_embedding_is_kept(folder: Path):
    head = torch.ones(97, 16)
    rewrite(folder, lambda tensors: tensors | {"lm_head.weight": head})
    config, state = read(folder)
    assert not config.tie_weights and state["head.weight"].equal(head)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "gelu"}, r"activation_function='gelu', which is not supported; GPT-2 has 'gelu_new'"),
        ({"scale_attn_by_inverse_layer_idx": True}, r"scale_attn_by_inverse_layer_idx=True"),
        ({"scale_attn_weights": False}, r"scale_attn_weights=False"),
        ({"add_cross_attention": True}, r"add_cross_attention=True"),
        ({"n_inner": 32}, r"n_inner=32, which is not supported"),
        ({"model_type": "gpt_neo"}, r"model_type='gpt_neo'"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config=\{'bits': 4\}"),
        ({"n_layer": None}, r"config\.json of .* must give a whole number for 'n_layer', not None"),
        ({"n_layer": 3}, r"transformer\.h\.2\.ln_1\.weight is missing"),
        ({"n_layer": 1}, r"holds transformer\.h\.1\.ln_1\.weight, but its config\.json says n_layer is 1"),
        ({"n_head": 3}, r"makes no GPT-2: n_embd \(16\) must be a multiple of n_head \(3\)"),
        ({"n_embd": 32}, r"transformer\.wte\.weight in .* has the shape \(97, 16\), not \(97, 32\)"),
        ({"resid_pdrop": "much"}, r"must give a number for 'resid_pdrop', not 'much'"),
        ({"resid_pdrop": 2}, r"makes no GPT-2: dropout must be in"),
        ({"tie_word_embeddings": False}, r"lm_head\.weight is missing"),
    ],
)
def test_a_config_that_is_not_gpt2s_is_refused_by_name(folder: Path, changes: dict[str, object], message: str):
    configure(folder, **changes)
    with pytest.raises(WeightsError, match=message):
        read(folder)


def test_a_missing_or_misshapen_tensor_is_named(folder: Path):
    rewrite(folder, lambda tensors: tensors | {"transformer.h.1.mlp.c_fc.weight": torch.ones(64, 16)})
    with pytest.raises(WeightsError, match=r"h\.1\.mlp\.c_fc\.weight in .* has the shape \(64, 16\), not \(16, 64\)"):
        read(folder)
    rewrite(folder, lambda tensors: tensors | {"transformer.h.1.mlp.c_fc.weight": torch.ones(16, 64).int()})
    with pytest.raises(WeightsError, match=r"h\.1\.mlp\.c_fc\.weight in .* holds torch\.int32"):
        read(folder)
    rewrite(folder, lambda tensors: {name: v for name, v in tensors.items() if not name.endswith("c_fc.weight")})
    with pytest.raises(WeightsError, match=r"transformer\.h\.0\.mlp\.c_fc\.weight is missing from"):
        read(folder)


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_file_that_is_cut_short_is_named(folder: Path, keep: int):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged or cut short"):
        read(folder)


def test_a_broken_or_missing_config_is_named(folder: Path):
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read as JSON"):
        read(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read as JSON"):
        read(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        read(folder / "model.safetensors")


def test_a_head_count_that_contradicts_the_config_is_refused(folder: Path):
    with pytest.raises(WeightsError, match=r"2 heads, not of n_head=4"):
        read(folder, n_head=4)
