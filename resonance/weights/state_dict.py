"""Which tensors a GPT-2 has, and how a layout's own names for them are written down.

It knows names and shapes only; matrices are (out, in), as torch's Linear holds them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from resonance.model_config import GPT2Config
from resonance.weights.errors import WeightsError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, slots=True)
class Names:
    """A layout's own names: `top` outside the blocks, and `in_block`, put into the pattern `block`."""

    top: Mapping[str, str]
    block: str  # with {layer} and {tensor}
    in_block: Mapping[str, str]

    def __call__(self, name: str) -> str:
        """The layout's name of one of our tensors."""
        if name in self.top:
            return self.top[name]
        _, layer, tensor = name.split(".", 2)
        return self.block.format(layer=layer, tensor=self.in_block[tensor])


def shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model by name, in the model's order, with its shape."""
    width, inner = config.n_embd, 4 * config.n_embd
    found: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (config.vocab_size, width),
        "position_embedding.weight": (config.context_length, width),
    }
    for layer in range(config.n_layer):
        block = f"blocks.{layer}"
        found |= {
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
    found |= {"norm.weight": (width,), "norm.bias": (width,)}
    if not config.tie_weights:
        found["head.weight"] = (config.vocab_size, width)
    return found


def is_projection(name: str) -> bool:
    """Whether a tensor is a block's matrix, which OpenAI's and Hugging Face's layouts hold transposed."""
    return name.startswith("blocks.") and ".norm" not in name and name.endswith(".weight")


def check(stored: str, tensor: Tensor, shape: tuple[int, ...], where: object) -> None:
    """Raise WeightsError unless the tensor, named as it is stored, has this shape and holds floats."""
    if tuple(tensor.shape) != shape:
        raise WeightsError(f"{stored} in {where} has the shape {tuple(tensor.shape)}, not {shape}.")
    if tensor.dtype not in FLOATS:
        raise WeightsError(f"{stored} in {where} holds {tensor.dtype}, not floating-point weights.")


def check_head_count(wanted: int | None, config: GPT2Config, where: object) -> None:
    """Raise WeightsError when a head count was asked for and the files, which hold it, say another."""
    if wanted is not None and wanted != config.n_head:
        raise WeightsError(f"{where} is a model of {config.n_head} heads, not of n_head={wanted}.")


def check_complete(state: Mapping[str, Tensor], config: GPT2Config) -> None:
    """Raise WeightsError, naming the tensor, unless a state about to be written is exactly the model's."""
    wanted = shapes(config)
    for name, shape in wanted.items():
        if name not in state:
            raise WeightsError(f"{name} is missing from the weights to be written.")
        check(name, state[name], shape, "the weights to be written")
    if extra := sorted(set(state) - set(wanted)):
        raise WeightsError(f"The weights to be written hold {listed(extra)}, which a GPT-2 does not have.")


def listed(names: Iterable[object], most: int = 6) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
