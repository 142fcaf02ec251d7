"""Hugging Face's GPT-2 layout: `config.json` beside `model.safetensors`, whole or in shards.

Their block matrices are (in, out), called Conv1D. Source: transformers' models/gpt2.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from resonance.model_config import GPT2Config
from resonance.weights.state_dict import (
    Names,
    WeightsError,
    check,
    check_complete,
    check_head_count,
    is_projection,
    listed,
    make_config,
    number,
    read_settings,
    shapes,
)

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PREFIX = "transformer."
HEAD = "lm_head.weight"
END_OF_TEXT = 50256

NAMES = Names(
    top={
        "token_embedding.weight": "transformer.wte.weight",
        "position_embedding.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
        "head.weight": HEAD,
    },
    block="transformer.h.{layer}.{tensor}",
    in_block={
        "norm1.weight": "ln_1.weight",
        "norm1.bias": "ln_1.bias",
        "attention.qkv.weight": "attn.c_attn.weight",
        "attention.qkv.bias": "attn.c_attn.bias",
        "attention.proj.weight": "attn.c_proj.weight",
        "attention.proj.bias": "attn.c_proj.bias",
        "norm2.weight": "ln_2.weight",
        "norm2.bias": "ln_2.bias",
        "feed_forward.fc.weight": "mlp.c_fc.weight",
        "feed_forward.fc.bias": "mlp.c_fc.bias",
        "feed_forward.proj.weight": "mlp.c_proj.weight",
        "feed_forward.proj.bias": "mlp.c_proj.bias",
    },
)
SIZES = {  # ours: theirs
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}
VARIANTS: dict[str, tuple[object, ...]] = {  # keys that change the computation, and the values that GPT-2 has
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
}


def read_config(folder: Path, *, n_head: int | None = None) -> GPT2Config:
    """Read the configuration from `config.json` and the tensors' names. Raises WeightsError, naming the file or key."""
    config = _config(read_settings(folder / CONFIG), _prefixed(_map_tensors(folder)), folder)
    check_head_count(n_head, config, folder)
    return config


def read(folder: Path, *, n_head: int | None = None) -> tuple[GPT2Config, dict[str, Tensor]]:
    """Read the model in a Hugging Face folder; tensors keep their dtypes and stay mapped from the file.

    Raises WeightsError, naming the file, key or tensor, when anything is missing, damaged or unsupported.
    """
    settings = read_settings(folder / CONFIG)
    config, state = from_huggingface(settings, _map_tensors(folder), where=folder)
    check_head_count(n_head, config, folder)
    return config, state


def check_shapes(folder: Path) -> GPT2Config:
    """Check that every tensor is there with its shape, and return the configuration. Raises WeightsError like `read`.

    The tensors are mapped but not read, except a head that may equal the token embedding.
    """
    return read(folder)[0]


def write(
    folder: Path,
    config: GPT2Config,
    state: Mapping[str, Tensor],
    *,
    eos_token_id: int = END_OF_TEXT,
    pad_token_id: int | None = None,
) -> None:
    """Write `config.json` and `model.safetensors` into an existing folder, so that transformers opens it as it is.

    With `pad_token_id` also `generation_config.json`.
    """
    settings, tensors = to_huggingface(config, state, eos_token_id=eos_token_id)
    if pad_token_id is not None:
        settings["pad_token_id"] = pad_token_id if config.vocab_size > pad_token_id else None
        generation = {name: settings[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        (folder / GENERATION_CONFIG).write_text(json.dumps(generation, indent=2) + "\n")
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)  # safetensors creates files that only the owner can read


def to_huggingface(
    config: GPT2Config, state: Mapping[str, Tensor], *, eos_token_id: int = END_OF_TEXT
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert our configuration and tensors to the content of `config.json` and contiguous Hugging Face tensors.

    transformers stops generating at `eos_token_id`; it is left out of a model with fewer tokens. Raises WeightsError,
    naming the tensor, when the state is not exactly that of the configuration.
    """
    check_complete(state, config)
    tensors = {
        NAMES(name): (tensor.T if is_projection(name) else tensor).detach().contiguous()
        for name, tensor in state.items()
    }
    settings = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "bos_token_id": END_OF_TEXT if config.vocab_size > END_OF_TEXT else None,
        "eos_token_id": eos_token_id if config.vocab_size > eos_token_id else None,
        "dtype": str(state["token_embedding.weight"].dtype).removeprefix("torch."),
        "initializer_range": config.initializer_range,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "n_ctx": config.context_length,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": None,
        "n_layer": config.n_layer,
        "n_positions": config.context_length,
        "tie_word_embeddings": config.tie_weights,
        "vocab_size": config.vocab_size,
    }
    return settings, tensors


def from_huggingface(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], *, where: object = "the weights"
) -> tuple[GPT2Config, dict[str, Tensor]]:
    """Convert Hugging Face's `config.json` and tensors to ours; the inverse of `to_huggingface`.

    Names may lack `transformer.`. The head is tied unless there is an `lm_head.weight` that differs from the
    embedding, or that `tie_word_embeddings` declares untied. Raises WeightsError, which names `where`, for variants
    of GPT-2 with another computation and for missing or misshapen tensors.
    """
    stored = _prefixed(tensors)
    config = _config(settings, stored, where)
    state: dict[str, Tensor] = {}
    for name, shape in shapes(config).items():
        theirs = NAMES(name)
        if theirs not in stored:
            raise WeightsError(f"{theirs} is missing from {where}, which holds {listed(tensors) or 'nothing'}.")
        check(theirs, stored[theirs], shape[::-1] if is_projection(name) else shape, where)
        state[name] = stored[theirs].T if is_projection(name) else stored[theirs]
    beyond = NAMES(f"blocks.{config.n_layer}.norm1.weight")
    if beyond in stored:
        raise WeightsError(f"{where} holds {beyond}, but its config.json says n_layer is {config.n_layer}.")
    return config, state


def _map_tensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in _files(folder):
        try:
            with safe_open(file, framework="pt") as opened:
                names = opened.keys()  # an open file cannot be iterated over
                tensors |= {name: opened.get_tensor(name) for name in names}
        except FileNotFoundError:
            raise WeightsError(f"{file} is missing.") from None
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{file} is damaged or cut short ({error}); fetch it again.") from None
    return tensors


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name if name.startswith((PREFIX, HEAD)) else PREFIX + name: value for name, value in tensors.items()}


def _is_tied(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], where: object) -> bool:
    is_declared_tied = settings.get("tie_word_embeddings", True)
    head, embedding = tensors.get(HEAD), tensors.get(NAMES("token_embedding.weight"))
    if head is None:
        if not is_declared_tied:
            raise WeightsError(f"{HEAD} is missing from {where}, whose config.json says that it is not tied.")
        return True
    return bool(is_declared_tied) and embedding is not None and head.shape == embedding.shape and head.equal(embedding)


def _config(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], where: object) -> GPT2Config:
    for key, allowed in VARIANTS.items():
        if settings.get(key, allowed[0]) not in allowed:
            raise WeightsError(
                f"{where} has {key}={settings[key]!r}, which is not supported; GPT-2 has {allowed[0]!r}."
            )
    file = f"The config.json of {where}"
    config = make_config(
        settings,
        SIZES,
        file,
        dropout=number(settings, "resid_pdrop", GPT2Config().dropout, file),
        tie_weights=_is_tied(settings, tensors, where),
        layer_norm_epsilon=number(settings, "layer_norm_epsilon", GPT2Config().layer_norm_epsilon, file),
        initializer_range=number(settings, "initializer_range", GPT2Config().initializer_range, file),
    )
    if settings.get("n_inner") not in (None, 4 * config.n_embd):
        raise WeightsError(
            f"{where} has n_inner={settings['n_inner']!r}, which is not supported; GPT-2's is 4 x n_embd."
        )
    return config


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        found = listed(sorted(entry.name for entry in folder.iterdir()))
        raise WeightsError(f"{folder} has no {WEIGHTS}; found {found}.")
    index = read_settings(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(name, str) for name in index.values()):
        raise WeightsError(f"{folder / INDEX} must give a 'weight_map' from tensors to files.")
    return [folder / Path(name).name for name in sorted(set(index.values()))]
