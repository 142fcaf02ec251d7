"""Packs weights in the order in which the kernels read them, which csrc/gemm.h describes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.memory import Arena, MappedFiles
from resonance.engine.quantization import INT4_GROUP, Precision, quantize_int4, quantize_int8
from resonance.model_config import GPT2Config

PANEL = 64  # outputs of a panel
ROWS_AT_ONCE = 256  # outputs packed at a time, a multiple of PANEL
BITS_PER_WEIGHT: dict[Precision, float] = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4 + 16 / INT4_GROUP}


def pad_to_panel(n: int) -> int:
    """The next multiple of a panel's outputs, to which inputs and outputs are padded."""
    return -(-n // PANEL) * PANEL


def packed_bytes_bound(config: GPT2Config) -> int:
    """An upper bound on the size of a model's packed weights in any precision."""
    width, inner = pad_to_panel(config.n_embd), pad_to_panel(4 * config.n_embd)
    block = width * (pad_to_panel(3 * config.n_embd) + width + 2 * inner)
    rest = 2 * pad_to_panel(config.vocab_size) * width + config.context_length * width
    return 4 * (config.n_layer * (block + 64 * inner) + rest + 2 * pad_to_panel(config.vocab_size) + 64 * width)


def pack(weight: Tensor, precision: Precision, arena: Arena, mapped: MappedFiles) -> tuple[Tensor, Tensor | None]:
    """Pack a matrix (outputs, inputs) in the arena: (panels, bytes), and int8's scales (padded outputs,) fp32.

    Packs a few rows at a time and releases those that map a file, so that the model is never in memory twice.
    """
    weight = weight.detach()
    outputs, inputs = weight.shape
    panels = pad_to_panel(outputs) // PANEL
    packed = arena.empty((panels, int(PANEL * pad_to_panel(inputs) * BITS_PER_WEIGHT[precision] / 8)), torch.uint8)
    scales = arena.empty((pad_to_panel(outputs),), torch.float32) if precision == "int8" else None
    for first in range(0, outputs, ROWS_AT_ONCE):
        rows = weight[first : first + ROWS_AT_ONCE]
        padded = F.pad(rows, (0, pad_to_panel(inputs) - inputs, 0, pad_to_panel(len(rows)) - len(rows)))
        panel_bytes, scale = _pack_panels(padded.contiguous(), precision)
        panel = first // PANEL
        packed[panel : panel + len(panel_bytes)] = panel_bytes.view(len(panel_bytes), -1).view(torch.uint8)
        if scales is not None and scale is not None:
            scales[first : first + len(scale)] = scale
        if rows.is_contiguous():
            mapped.release(rows)
    mapped.release(weight)
    return packed, scales


def _pack_panels(weight: Tensor, precision: Precision) -> tuple[Tensor, Tensor | None]:
    panels = weight.shape[0] // PANEL
    match precision:
        case "fp32":
            return weight.float().view(panels, PANEL, -1).transpose(1, 2).contiguous(), None
        case "bf16":
            return _interleave(weight.bfloat16(), 2), None
        case "int8":
            levels, scale = quantize_int8(weight)
            return _interleave((levels.short() + 128).to(torch.uint8), 4), scale
        case "int4":
            levels, scale = quantize_int4(weight)
            nibbles = (levels + 8).to(torch.uint8).view(panels, PANEL, -1, INT4_GROUP // 8, 2, 4)
            both = nibbles[..., 0, :] | (nibbles[..., 1, :] << 4)  # (panels, output, groups, 4, 4)
            both = both.permute(0, 2, 3, 1, 4).flatten(2)  # (panels, groups, 1024)
            scale = scale.view(panels, PANEL, -1).transpose(1, 2).contiguous()  # (panels, groups, output)
            return torch.cat([scale.view(torch.uint8), both], dim=2), None


def _interleave(weight: Tensor, count: int) -> Tensor:
    # (outputs, inputs) -> (panels, inputs / count, 64, count)
    return weight.view(weight.shape[0] // PANEL, PANEL, -1, count).transpose(1, 2).contiguous()
