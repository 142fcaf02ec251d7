import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH, GGUFReader, dequantize, get_tensor_name_map, quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from resonance.model import GPT2, GPT2Config
from resonance.weights import WeightsError, gguf
from resonance.weights.gguf import FORMATS, tensor_names

TYPES = {name: kind for name, (kind, _) in FORMATS.items()}
TOKENS = [f"t{i}" for i in range(90)] + ["<|endoftext|>"]
VOCABULARY = gguf.Vocabulary(TOKENS, ["t 1", "t 2"], frozenset({90}), 90, 90, "{{ messages }}")
TOLERANCE = {"f32": 0.0, "f16": 1e-3, "bf16": 1e-2, "q8_0": 1e-2, "q4_0": 0.15}  # of the largest weight


def model(tied: bool = True, width: int = 64) -> GPT2:
    torch.manual_seed(4)
    model = GPT2(GPT2Config(97, 24, 2, 2, width, tie_weights=tied)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def written(path: Path, model: GPT2, kind: str) -> GGUFReader:
    gguf.write(path, "a tiny one", model.config, model.state_dict(), VOCABULARY, kind)
    return GGUFReader(path)


def value(reader: GGUFReader, key: str) -> object:
    field = reader.get_field(key)
    assert field is not None, key
    return field.contents()


@pytest.mark.parametrize("kind", FORMATS)
def test_llama_cpps_reader_finds_every_tensor_where_and_what_it_is(tmp_path: Path, kind: str):
    ours = model(tied=False)
    found = {t.name: t for t in written(tmp_path / "m.gguf", ours, kind).tensors}
    assert len(found) == len(ours.state_dict())
    for name, tensor in ours.state_dict().items():
        stored = found[tensor_names(ours.config)[name]]
        assert stored.data_offset % 32 == 0
        assert tuple(stored.shape)[::-1] == tuple(tensor.shape)
        numbers = dequantize(stored.data, stored.tensor_type).reshape(tensor.shape)
        plain = tensor.dim() == 1 or name == "position_embedding.weight"
        assert stored.tensor_type == TYPES["f32"] if plain else True
        limit = 0 if plain else TOLERANCE[kind] * tensor.abs().max().item()
        assert np.abs(numbers - tensor.numpy()).max() <= limit, name


def test_the_embeddings_of_a_4_bit_model_have_8_bits(tmp_path: Path):
    types = {t.name: t.tensor_type for t in written(tmp_path / "m.gguf", model(), "q4_0").tensors}
    assert types["token_embd.weight"] == types["output.weight"] == TYPES["q8_0"]
    assert types["blk.1.ffn_down.weight"] == TYPES["q4_0"]


def test_rows_that_make_no_whole_blocks_are_f16(tmp_path: Path):
    types = {t.name: t.tensor_type for t in written(tmp_path / "m.gguf", model(width=48), "q8_0").tensors}
    assert types["token_embd.weight"] == types["blk.0.attn_qkv.weight"] == TYPES["f16"]
    assert types["blk.0.ffn_down.weight"] == TYPES["q8_0"]  # 192 wide


def test_a_tied_head_is_written_out(tmp_path: Path):
    found = {t.name: t.data for t in written(tmp_path / "m.gguf", model(), "q8_0").tensors}
    assert np.array_equal(found["output.weight"], found["token_embd.weight"])


def test_the_keys_say_what_the_model_is(tmp_path: Path):
    reader = written(tmp_path / "m.gguf", model(), "f16")
    expected = {
        "general.architecture": "gpt2",
        "general.name": "a tiny one",
        "general.file_type": 1,
        "gpt2.context_length": 24,
        "gpt2.embedding_length": 64,
        "gpt2.feed_forward_length": 256,
        "gpt2.block_count": 2,
        "gpt2.attention.head_count": 2,
        "gpt2.attention.layer_norm_epsilon": struct.unpack("<f", struct.pack("<f", 1e-5))[0],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.merges": ["t 1", "t 2"],
        "tokenizer.ggml.bos_token_id": 90,
        "tokenizer.ggml.eos_token_id": 90,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }
    assert {key: value(reader, key) for key in expected} == expected


def test_rows_without_a_token_are_marked_unused(tmp_path: Path):
    reader = written(tmp_path / "m.gguf", model(), "f16")
    assert value(reader, "tokenizer.ggml.tokens") == [*TOKENS, *(f"[PAD{i}]" for i in range(91, 97))]
    assert value(reader, "tokenizer.ggml.token_type") == [1] * 90 + [3] + [5] * 6


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_transformers_model_filled_by_llama_cpps_own_table_of_names_computes_our_logits(tmp_path: Path, tied: bool):
    ours = model(tied)
    stored = {t.name: t for t in written(tmp_path / "m.gguf", ours, "f32").tensors}
    sizes = {"vocab_size": 97, "n_positions": 24, "n_layer": 2, "n_head": 2, "n_embd": 64}
    theirs = GPT2LMHeadModel(TheirConfig(**sizes, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=1)).eval()
    table = get_tensor_name_map(MODEL_ARCH.GPT2, 2)
    for name, parameter in theirs.named_parameters():
        tensor = stored[table.get_name(name.removeprefix("transformer."), try_suffixes=(".weight", ".bias")) or name]
        numbers = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).view(
            *reversed(tensor.shape.tolist())
        )
        parameter.copy_(numbers.T if "c_" in name and numbers.dim() == 2 else numbers)
    ids = torch.arange(46).view(2, 23)
    torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-4, rtol=0)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path):
    tokens = gguf.Vocabulary([str(i) for i in range(98)], [], frozenset(), 0, 0)
    ours = model()
    with pytest.raises(WeightsError, match="has 97 tokens and its tokenizer 98"):
        gguf.write(tmp_path / "m.gguf", "m", ours.config, ours.state_dict(), tokens, "f16")


floats = st.floats(-1e4, 1e4, width=32) | st.just(0.0) | st.integers(-8, 7).map(float)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=5)
@given(numbers=st.lists(floats, min_size=64, max_size=64))
def test_a_files_matrices_are_bit_for_bit_what_ggml_makes_of_them(kind: str, numbers: list[float]):
    ours = model()
    ours.blocks[1].feed_forward.fc.weight.data[3] = torch.tensor(numbers)
    with TemporaryDirectory() as folder:
        stored = {t.name: t.data.tobytes() for t in written(Path(folder) / "m.gguf", ours, kind).tensors}
    for name in ("feed_forward.fc", "feed_forward.proj", "attention.qkv", "attention.proj"):
        matrix = ours.get_parameter(f"blocks.1.{name}.weight").detach().numpy()
        expected = quantize(matrix, TYPES[kind]).tobytes()
        assert stored[tensor_names(ours.config)[f"blocks.1.{name}.weight"]] == expected
