"""A GPT-2 as one GGUF file, which llama.cpp and what is built on it open.

A GGUF file is a header, keys with typed values, a list of tensors, and their numbers, each at a multiple of 32
bytes. Source: ggml's docs/gguf.md, version 3, and llama.cpp's src/models/gpt2.cpp for keys and names.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from resonance.model_config import GPT2Config
from resonance.weights.errors import WeightsError
from resonance.weights.ggml import FORMATS, Format
from resonance.weights.state_dict import Names, check_complete, is_projection

VERSION = 3
ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, CONTROL, UNUSED = 1, 3, 5  # kinds of tokens
QUANTIZATION_VERSION = 2
HEAD = "output.weight"

NAMES = Names(
    top={
        "token_embedding.weight": "token_embd.weight",
        "position_embedding.weight": "position_embd.weight",
        "norm.weight": "output_norm.weight",
        "norm.bias": "output_norm.bias",
        "head.weight": HEAD,
    },
    block="blk.{layer}.{tensor}",
    in_block={
        "norm1.weight": "attn_norm.weight",
        "norm1.bias": "attn_norm.bias",
        "attention.qkv.weight": "attn_qkv.weight",
        "attention.qkv.bias": "attn_qkv.bias",
        "attention.proj.weight": "attn_output.weight",
        "attention.proj.bias": "attn_output.bias",
        "norm2.weight": "ffn_norm.weight",
        "norm2.bias": "ffn_norm.bias",
        "feed_forward.fc.weight": "ffn_up.weight",
        "feed_forward.fc.bias": "ffn_up.bias",
        "feed_forward.proj.weight": "ffn_down.weight",
        "feed_forward.proj.bias": "ffn_down.bias",
    },
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF file says of the tokenizer: tokens by id in GPT-2's printable form, and its merges in order."""

    tokens: Sequence[str]
    merges: Sequence[str]
    control_ids: frozenset[int]
    bos_id: int
    eos_id: int
    chat_template: str | None = None  # Jinja


def write(
    path: Path, name: str, config: GPT2Config, state: Mapping[str, Tensor], vocabulary: Vocabulary, format_name: str
) -> None:
    """Write the model, its matrices in one of `ggml.FORMATS`, tensor by tensor.

    Norms, biases and positions stay float32, and so does the quality of the head: with q4_0 the embeddings are
    q8_0, and what is no multiple of 32 wide is f16. The head is written out even where it is tied, since older
    llama.cpp demands it. Raises WeightsError when the vocabulary is larger than the model's.
    """
    check_complete(state, config)
    if len(vocabulary.tokens) > config.vocab_size:
        raise WeightsError(
            f"The model has {config.vocab_size} tokens and its tokenizer {len(vocabulary.tokens)}, "
            "which no GGUF file can hold together."
        )
    tensors = {NAMES(our): (tensor, FORMATS[_format_of(our, tensor, format_name)]) for our, tensor in state.items()}
    tensors.setdefault(HEAD, tensors[NAMES("token_embedding.weight")])
    keys = _keys(name, config, vocabulary, format_name)
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", VERSION, len(tensors), len(keys)))
        for key, value in keys.items():
            file.write(_string(key) + value)
        offset = 0
        for stored, (tensor, form) in tensors.items():
            dimensions = struct.pack(f"<{tensor.dim()}Q", *reversed(tensor.shape))
            file.write(_string(stored) + struct.pack("<I", tensor.dim()) + dimensions)
            file.write(struct.pack("<IQ", form.ggml_type, offset))
            offset += _aligned(form.nbytes(tensor.numel()))
        _pad(file)
        for tensor, form in tensors.values():
            form.pack(tensor).tofile(file)
            _pad(file)


def _format_of(name: str, tensor: Tensor, wanted: str) -> str:
    if name == "position_embedding.weight" or not (tensor.dim() > 1):
        return "f32"
    form: Format = FORMATS[wanted]
    if tensor.shape[-1] % form.block:
        return "f16"
    return "q8_0" if wanted == "q4_0" and not is_projection(name) else wanted


def _keys(name: str, config: GPT2Config, vocabulary: Vocabulary, format_name: str) -> dict[str, bytes]:
    missing = range(len(vocabulary.tokens), config.vocab_size)  # rows of the embedding that no token has
    tokens = [*vocabulary.tokens, *(f"[PAD{i}]" for i in missing)]
    kinds = [CONTROL if i in vocabulary.control_ids else NORMAL for i in range(len(vocabulary.tokens))]
    keys = {
        "general.architecture": _text("gpt2"),
        "general.type": _text("model"),
        "general.name": _text(name),
        "general.file_type": _number(FORMATS[format_name].file_type),
        "general.quantization_version": _number(QUANTIZATION_VERSION),
        "gpt2.context_length": _number(config.context_length),
        "gpt2.embedding_length": _number(config.n_embd),
        "gpt2.feed_forward_length": _number(4 * config.n_embd),
        "gpt2.block_count": _number(config.n_layer),
        "gpt2.attention.head_count": _number(config.n_head),
        "gpt2.attention.layer_norm_epsilon": struct.pack("<If", FLOAT32, config.layer_norm_epsilon),
        "gpt2.vocab_size": _number(config.vocab_size),
        "tokenizer.ggml.model": _text("gpt2"),
        "tokenizer.ggml.pre": _text("gpt-2"),
        "tokenizer.ggml.tokens": _texts(tokens),
        "tokenizer.ggml.token_type": _integers([*kinds, *(UNUSED for _ in missing)]),
        "tokenizer.ggml.merges": _texts(vocabulary.merges),
        "tokenizer.ggml.bos_token_id": _number(vocabulary.bos_id),
        "tokenizer.ggml.eos_token_id": _number(vocabulary.eos_id),
        "tokenizer.ggml.add_bos_token": struct.pack("<IB", BOOL, 0),
    }
    if vocabulary.chat_template is not None:
        keys["tokenizer.chat_template"] = _text(vocabulary.chat_template)
    return keys


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _text(value: str) -> bytes:
    return struct.pack("<I", STRING) + _string(value)


def _number(value: int) -> bytes:
    return struct.pack("<II", UINT32, value)


def _texts(values: Sequence[str]) -> bytes:
    return struct.pack("<IIQ", ARRAY, STRING, len(values)) + b"".join(map(_string, values))


def _integers(values: Sequence[int]) -> bytes:
    return struct.pack(f"<IIQ{len(values)}i", ARRAY, INT32, len(values), *values)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _pad(file: BinaryIO) -> None:
    file.write(bytes(_aligned(file.tell()) - file.tell()))
