"""A GPT-2 as one GGUF file, which llama.cpp and the programs built on it open.

Source: llama.cpp's src/models/gpt2.cpp for the keys; the `gguf` package for tensor names, quantisation and layout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    GGML_QUANT_VERSION,
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    LlamaFileType,
    TokenType,
    get_tensor_name_map,
    quantize,
)
from torch import Tensor

from resonance.model_config import GPT2Config
from resonance.weights import huggingface
from resonance.weights.state_dict import WeightsError, check_complete, is_projection, shapes

FORMATS = {  # by name: the type of a file's matrices, and the file's own type
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokenizer in a GGUF file: tokens by id in GPT-2's printable form, and its merges in order."""

    tokens: Sequence[str]
    merges: Sequence[str]
    control_ids: frozenset[int]
    bos_id: int
    eos_id: int
    chat_template: str | None = None  # Jinja


def write(
    path: Path, name: str, config: GPT2Config, state: Mapping[str, Tensor], vocabulary: Vocabulary, format_name: str
) -> None:
    """Write the model tensor by tensor, its matrices in one of FORMATS.

    Norms, biases and positions stay float32. With q4_0 the embeddings and the head are q8_0; rows that are no multiple
    of a quantisation block are f16. The head is written even where it is tied, because older llama.cpp requires it.
    Raises WeightsError when the vocabulary is larger than the model's.
    """
    check_complete(state, config)
    if len(vocabulary.tokens) > config.vocab_size:
        raise WeightsError(
            f"The model has {config.vocab_size} tokens and its tokenizer {len(vocabulary.tokens)}, "
            "which no GGUF file can hold together."
        )
    names = tensor_names(config)
    tensors = {names[our]: (tensor, _tensor_type(our, tensor, format_name)) for our, tensor in state.items()}
    tensors.setdefault("output.weight", tensors["token_embd.weight"])
    writer = GGUFWriter(path, "gpt2")
    _add_keys(writer, name, config, vocabulary, FORMATS[format_name][1])
    for stored, (tensor, kind) in tensors.items():
        block, block_bytes = GGML_QUANT_SIZES[kind]
        nbytes = tensor.numel() // block * block_bytes
        writer.add_tensor_info(stored, tensor.shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, kind in tensors.values():  # one after the other, so that only one is in memory
            writer.write_tensor_data(quantize(tensor.detach().float().numpy(), kind))
    finally:
        writer.close()


def difference(path: Path, config: GPT2Config, state: Mapping[str, Tensor], vocabulary: Vocabulary) -> str | None:
    """Say where a GGUF file is not this model, in whatever format its tensors are; None where it is.

    Compares sizes, tokens, merges, template and, after the same quantisation, every byte of every tensor. Raises
    WeightsError when the file cannot be read.
    """
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read as a GGUF file ({error}).") from None
    unused = range(len(vocabulary.tokens), config.vocab_size)
    for key, value in {
        "general.architecture": "gpt2",
        "gpt2.context_length": config.context_length,
        "gpt2.embedding_length": config.n_embd,
        "gpt2.block_count": config.n_layer,
        "gpt2.attention.head_count": config.n_head,
        "tokenizer.ggml.tokens": [*vocabulary.tokens, *(f"[PAD{i}]" for i in unused)],
        "tokenizer.ggml.merges": list(vocabulary.merges),
        "tokenizer.ggml.eos_token_id": vocabulary.eos_id,
        "tokenizer.chat_template": vocabulary.chat_template,
    }.items():
        if fields.get(key) != value:
            return f"its {key} is another one"
    stored = {tensor.name: tensor for tensor in reader.tensors}
    expected = {name: state[our] for our, name in tensor_names(config).items()}
    expected.setdefault("output.weight", expected["token_embd.weight"])
    for name in sorted(stored.keys() ^ expected.keys()):
        return f"it {'lacks' if name in expected else 'has'} the tensor {name}"
    for name, tensor in expected.items():
        data = quantize(tensor.detach().float().numpy(), stored[name].tensor_type)
        if data.tobytes() != stored[name].data.tobytes():
            return f"its tensor {name} holds other numbers"
    return None


def tensor_names(config: GPT2Config) -> dict[str, str]:
    """Map our tensor names to GGUF's."""
    table = get_tensor_name_map(MODEL_ARCH.GPT2, config.n_layer)
    names = {ours: table.get_name(huggingface.NAMES(ours), (".weight", ".bias")) for ours in shapes(config)}
    return {ours: stored for ours, stored in names.items() if stored is not None}


def _tensor_type(name: str, tensor: Tensor, format_name: str) -> GGMLQuantizationType:
    if name == "position_embedding.weight" or tensor.dim() == 1:
        return GGMLQuantizationType.F32
    kind, _ = FORMATS[format_name]
    if tensor.shape[-1] % GGML_QUANT_SIZES[kind][0]:
        return GGMLQuantizationType.F16
    if kind == GGMLQuantizationType.Q4_0 and not is_projection(name):
        return GGMLQuantizationType.Q8_0
    return kind


def _add_keys(
    writer: GGUFWriter, name: str, config: GPT2Config, vocabulary: Vocabulary, file_type: LlamaFileType
) -> None:
    unused = range(len(vocabulary.tokens), config.vocab_size)  # rows of the embedding without a token
    kinds = [TokenType.CONTROL if i in vocabulary.control_ids else TokenType.NORMAL for i in range(unused.start)]
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*vocabulary.tokens, *(f"[PAD{i}]" for i in unused)])
    writer.add_token_types([*kinds, *(TokenType.UNUSED for _ in unused)])
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.bos_id)
    writer.add_eos_token_id(vocabulary.eos_id)
    writer.add_add_bos_token(False)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)
