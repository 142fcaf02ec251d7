"""Weight quantization: int8 with a scale per output, int4 with a scale per group of inputs."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.model import GPT2

Precision = Literal["fp32", "bf16", "int8", "int4"]
INT4_GROUP = 32
SHRINK = (1.0, 0.93, 0.86, 0.79)  # int4 scales to try, relative to the one that clips nothing
ROWS_AT_ONCE = 512  # quantized at a time, so that intermediates stay in the processor's cache


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) floats -> int8 in [-127, 127] of the same shape, and (outputs,) fp32 scales."""
    weight = weight.float()
    scale = weight.abs().amax(1).clamp_min(1e-12) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) floats -> int8 in [-8, 7] of the same shape, and (outputs, inputs / 32) bf16 scales.

    A group's largest weight, with its sign, maps to -8, so that all sixteen levels are used. Of that scale and some
    smaller ones, which clip, the one with the least squared error is chosen. Inputs must be a multiple of 32.
    """
    parts = [_quantize_int4(rows.float().unflatten(1, (-1, INT4_GROUP))) for rows in weight.split(ROWS_AT_ONCE)]
    return torch.cat([levels for levels, _ in parts]), torch.cat([scale for _, scale in parts])


def _quantize_int4(groups: Tensor) -> tuple[Tensor, Tensor]:
    extreme = groups.gather(2, groups.abs().argmax(2, keepdim=True))  # (outputs, groups, 1)
    least = torch.full_like(extreme, float("inf"))
    best = torch.zeros_like(extreme)
    for shrink in SHRINK:
        scale = (extreme * (shrink / -8)).bfloat16().float()
        error = (_levels(groups, scale) * scale - groups).square().sum(2, keepdim=True)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return _levels(groups, best).flatten(1).to(torch.int8), best[..., 0].bfloat16()


def _levels(groups: Tensor, scale: Tensor) -> Tensor:
    return (groups * torch.where(scale == 0, 0.0, 1 / scale)).round().clamp(-8, 7)


def dequantize(levels: Tensor, scale: Tensor) -> Tensor:
    """The (outputs, inputs) fp32 weights that int8 or int4 levels and scales represent."""
    if scale.dim() == 1:
        return levels.float() * scale[:, None]
    return (levels.float().unflatten(1, (scale.shape[1], -1)) * scale.float()[..., None]).flatten(1)


@torch.no_grad()
def fake_quantize(model: GPT2, precision: Precision) -> GPT2:
    """A copy of the model in fp32 or bf16 whose matrices are rounded to `precision`.

    Its outputs are those of the quantized model; its size and speed are not.
    """
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    if precision not in ("int8", "int4"):
        return GPT2.from_state(model.config, {name: t.to(dtype) for name, t in model.state_dict().items()})
    quantize = quantize_int8 if precision == "int8" else quantize_int4
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 2 and name != "position_embedding.weight":
            inputs = tensor.shape[1]
            padded = F.pad(tensor.float(), (0, -inputs % INT4_GROUP))
            state[name] = dequantize(*quantize(padded))[:, :inputs].to(dtype).contiguous()
        else:
            state[name] = tensor.to(dtype)
    return GPT2.from_state(model.config, state)
