"""Weights in the order in which the kernels read them; linear.h says which."""

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.memory import Arena, MappedFiles
from resonance.engine.quantization import INT4_GROUP, Precision, quantize_int4, quantize_int8
from resonance.model import GPT2Config

PANEL = 64  # outputs side by side
ROWS_AT_ONCE = 256  # packed together, a multiple of PANEL
BITS: dict[Precision, float] = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4 + 16 / INT4_GROUP}  # a packed weight


def whole(n: int) -> int:
    """The next multiple of a panel's width, to which inputs and outputs are padded."""
    return -(-n // PANEL) * PANEL


def room(config: GPT2Config) -> int:
    """Bytes that suffice for a model's packed weights in any precision."""
    width, inner = whole(config.n_embd), whole(4 * config.n_embd)
    block = width * (whole(3 * config.n_embd) + width + 2 * inner)
    rest = 2 * whole(config.vocab_size) * width + config.context_length * width
    return 4 * (config.n_layer * (block + 64 * inner) + rest + 2 * whole(config.vocab_size) + 64 * width)


def pack(weight: Tensor, precision: Precision, arena: Arena, mapped: MappedFiles) -> tuple[Tensor, Tensor | None]:
    """Put a matrix (outputs, inputs) into packed memory: (panels, bytes), and int8's scales (padded outputs,) fp32.

    A little at a time; what the matrix has of a mapped file is given back when it is done.
    """
    weight = weight.detach()
    outputs, inputs = weight.shape
    panels = whole(outputs) // PANEL
    packed = arena.empty((panels, int(PANEL * whole(inputs) * BITS[precision] / 8)), torch.uint8)
    scales = arena.empty((whole(outputs),), torch.float32) if precision == "int8" else None
    for first in range(0, outputs, ROWS_AT_ONCE):
        rows = weight[first : first + ROWS_AT_ONCE]
        padded = F.pad(rows, (0, whole(inputs) - inputs, 0, whole(len(rows)) - len(rows)))
        memory, scale = _pack(padded.contiguous(), precision)
        at = first // PANEL
        packed[at : at + len(memory)] = memory.view(len(memory), -1).view(torch.uint8)
        if scales is not None and scale is not None:
            scales[first : first + len(scale)] = scale
        if rows.is_contiguous():
            mapped.give_back(rows)
    mapped.give_back(weight)
    return packed, scales


def _pack(weight: Tensor, precision: Precision) -> tuple[Tensor, Tensor | None]:
    panels = weight.shape[0] // PANEL
    match precision:
        case "fp32":
            return weight.float().view(panels, PANEL, -1).transpose(1, 2).contiguous(), None
        case "bf16":
            return _side_by_side(weight.bfloat16(), 2), None
        case "int8":
            levels, scale = quantize_int8(weight)
            return _side_by_side((levels.short() + 128).to(torch.uint8), 4), scale
        case "int4":
            levels, scale = quantize_int4(weight)
            steps = (levels + 8).to(torch.uint8).view(panels, PANEL, -1, INT4_GROUP // 8, 2, 4)
            both = steps[..., 0, :] | (steps[..., 1, :] << 4)  # (panels, output, groups, 4 steps, 4)
            both = both.permute(0, 2, 3, 1, 4).flatten(2)  # (panels, groups, 1024)
            scale = scale.view(panels, PANEL, -1).transpose(1, 2).contiguous()  # (panels, groups, output)
            return torch.cat([scale.view(torch.uint8), both], dim=2), None


def _side_by_side(weight: Tensor, together: int) -> Tensor:
    # (outputs, inputs) -> (panels, inputs / together, 64, together)
    return weight.view(weight.shape[0] // PANEL, PANEL, -1, together).transpose(1, 2).contiguous()
