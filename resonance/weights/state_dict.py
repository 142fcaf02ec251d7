"""The names and shapes of a GPT-2's tensors, and the checks that every layout's reader and writer shares.

Matrices are (out, in), as torch's Linear holds them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resonance.errors import ResonanceError
from resonance.model_config import GPT2Config, ModelError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class WeightsError(ResonanceError):
    """Weights that are missing, damaged, of another model, or that cannot be written."""


@dataclass(frozen=True, slots=True)
class Names:
    """A layout's tensor names: `top` outside the blocks; `in_block`, inserted into the pattern `block`."""

    top: Mapping[str, str]
    block: str  # with {layer} and {tensor}
    in_block: Mapping[str, str]

    def __call__(self, name: str) -> str:
        """Translate one of our tensor names."""
        if name in self.top:
            return self.top[name]
        _, layer, tensor = name.split(".", 2)
        return self.block.format(layer=layer, tensor=self.in_block[tensor])


def shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by name, in the model's order."""
    width, inner = config.n_embd, 4 * config.n_embd
    tensors: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (config.vocab_size, width),
        "position_embedding.weight": (config.context_length, width),
    }
    for layer in range(config.n_layer):
        block = f"blocks.{layer}"
        tensors |= {
            f"{block}.norm1.weight": (width,),
            f"{block}.norm1.bias": (width,),
            f"{block}.attention.qkv.weight": (3 * width, width),
            f"{block}.attention.qkv.bias": (3 * width,),
            f"{block}.attention.proj.weight": (width, width),
            f"{block}.attention.proj.bias": (width,),
            f"{block}.norm2.weight": (width,),
            f"{block}.norm2.bias": (width,),
            f"{block}.feed_forward.fc.weight": (inner, width),
            f"{block}.feed_forward.fc.bias": (inner,),
            f"{block}.feed_forward.proj.weight": (width, inner),
            f"{block}.feed_forward.proj.bias": (width,),
        }
    tensors |= {"norm.weight": (width,), "norm.bias": (width,)}
    if not config.tie_weights:
        tensors["head.weight"] = (config.vocab_size, width)
    return tensors


def is_projection(name: str) -> bool:
    """Whether a tensor is a block's matrix; OpenAI's and Hugging Face's layouts hold these transposed."""
    return name.startswith("blocks.") and ".norm" not in name and name.endswith(".weight")


def check(stored: str, tensor: Tensor, shape: tuple[int, ...], where: object) -> None:
    """Raise WeightsError unless the tensor has this shape and holds floats; `stored` is its name in the file."""
    if tuple(tensor.shape) != shape:
        raise WeightsError(f"{stored} in {where} has the shape {tuple(tensor.shape)}, not {shape}.")
    if tensor.dtype not in FLOATS:
        raise WeightsError(f"{stored} in {where} holds {tensor.dtype}, not floating-point weights.")


def check_head_count(n_head: int | None, config: GPT2Config, where: object) -> None:
    """Raise WeightsError when `n_head` is given and differs from the files' own."""
    if n_head is not None and n_head != config.n_head:
        raise WeightsError(f"{where} is a model of {config.n_head} heads, not of n_head={n_head}.")


def check_complete(state: Mapping[str, Tensor], config: GPT2Config) -> None:
    """Raise WeightsError, naming the tensor, unless a state to be written is exactly the model's."""
    expected = shapes(config)
    for name, shape in expected.items():
        if name not in state:
            raise WeightsError(f"{name} is missing from the weights to be written.")
        check(name, state[name], shape, "the weights to be written")
    if extra := sorted(set(state) - set(expected)):
        raise WeightsError(f"The weights to be written hold {listed(extra)}, which a GPT-2 does not have.")


def read_settings(path: Path) -> dict[str, Any]:
    """Read the JSON object that holds a model's sizes. Raises WeightsError when it is missing or no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing; it holds the sizes of the model.") from None
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    return content


def number(settings: Mapping[str, Any], key: str, default: float, where: object) -> float:
    """Return an optional setting. Raises WeightsError when it is not a number."""
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WeightsError(f"{where} must give a number for {key!r}, not {value!r}.")
    return value


def make_config(
    settings: Mapping[str, Any],
    keys: Mapping[str, str],
    where: object,
    *,
    dropout: float = GPT2Config().dropout,
    tie_weights: bool = True,
    layer_norm_epsilon: float = GPT2Config().layer_norm_epsilon,
    initializer_range: float = GPT2Config().initializer_range,
) -> GPT2Config:
    """Make the configuration from a layout's settings; `keys` maps our names of the sizes to theirs.

    Raises WeightsError, naming the key, when a size is missing or not a whole number, or when they make no GPT-2.
    """
    sizes: dict[str, int] = {}
    for ours, theirs in keys.items():
        value = settings.get(theirs)
        if isinstance(value, bool) or not isinstance(value, int):
            raise WeightsError(f"{where} must give a whole number for {theirs!r}, not {value!r}.")
        sizes[ours] = value
    try:
        return GPT2Config(
            vocab_size=sizes["vocab_size"],
            context_length=sizes["context_length"],
            n_layer=sizes["n_layer"],
            n_head=sizes["n_head"],
            n_embd=sizes["n_embd"],
            dropout=dropout,
            tie_weights=tie_weights,
            layer_norm_epsilon=layer_norm_epsilon,
            initializer_range=initializer_range,
        )
    except ModelError as error:
        raise WeightsError(f"{where} makes no GPT-2: {error}") from None


def listed(names: Iterable[object], most: int = 6) -> str:
    """Format names for a sentence: the first few, and how many more there are."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
