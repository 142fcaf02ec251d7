"""Weights in the order in which the kernels read them; linear.h says which."""

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.quantize import INT4_GROUP, Precision, quantize_int4, quantize_int8
from resonance.model import GPT2Config

PANEL = 64  # outputs side by side


def whole(n: int) -> int:
    """The next multiple of a panel's width, to which inputs and outputs are padded."""
    return -(-n // PANEL) * PANEL


def room(config: GPT2Config) -> int:
    """Bytes that suffice for a model's packed weights in any precision."""
    width, inner = whole(config.n_embd), whole(4 * config.n_embd)
    block = width * (whole(3 * config.n_embd) + width + 2 * inner)
    rest = 2 * whole(config.vocab_size) * width + config.context_length * width
    return 4 * (config.n_layer * (block + 64 * inner) + rest + 2 * whole(config.vocab_size) + 64 * width)


def pack(weight: Tensor, precision: Precision) -> tuple[Tensor, Tensor | None]:
    """A matrix (outputs, inputs) as packed memory, and int8's scales (padded outputs,) fp32."""
    outputs, inputs = weight.shape
    weight = F.pad(weight.detach(), (0, whole(inputs) - inputs, 0, whole(outputs) - outputs))
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
