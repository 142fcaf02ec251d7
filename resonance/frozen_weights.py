"""Frozen weights in few bytes, beneath an adapter that trains: bf16, or int8 with a scale for each row.

The matrices inside the blocks are held in the chosen type, and the embeddings and head in bf16 in both cases: int8
costs most there (Dettmers et al. 2023, "QLoRA", keeps them in 16 bits too). Position embeddings, biases and LayerNorms
stay in float32; they are small. A product expands one matrix at a time, and the backward pass expands it again, so that
no expanded matrix is kept.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE_DTYPES = ("fp32", "bf16", "int8")


class FrozenLinear(nn.Module):
    """A linear layer of which no weight trains: (..., in) -> (..., out)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, base_dtype: str) -> None:
        """Hold `weight` (out, in) in `base_dtype`, `bf16` or `int8`."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        stored, scales = quantize(weight) if base_dtype == "int8" else (weight.bfloat16(), None)
        self.stored = nn.Parameter(stored, requires_grad=False)
        self.row_scales = None if scales is None else nn.Parameter(scales, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """The matrix that the layer computes with, (out, in) float32."""
        weight = self.stored.float()
        return weight if self.row_scales is None else weight * self.row_scales[:, None]

    def forward(self, x: Tensor) -> Tensor:
        y = _FrozenProduct.apply(x, self.stored, self.row_scales, self.bias)
        assert isinstance(y, Tensor)
        return y


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix (out, in) to int8 with a float32 scale for each row, (out,): the row is scale times integers."""
    weight = weight.float()
    scales = weight.abs().amax(1) / 127
    scales = torch.where(scales > 0, scales, 1.0)  # a row of zeros
    return (weight / scales[:, None]).round().to(torch.int8), scales


def as_held(name: str, tensor: Tensor, base_dtype: str) -> Tensor:
    """Return a plain model's tensor, by its name, with the values that a base of `base_dtype` computes with."""
    layer = name.removesuffix(".weight")
    if base_dtype == "fp32" or layer == name or tensor.dim() != 2 or layer == "position_embedding":
        return tensor
    if base_dtype == "int8" and layer.startswith("blocks."):
        stored, scales = quantize(tensor)
        return stored.float() * scales[:, None]
    return tensor.bfloat16().float()


class _FrozenProduct(torch.autograd.Function):
    """x W^T + b in autocast's type. A row's scale multiplies its output, which is exact where a rounded W is not."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        ctx: Any, x: Tensor, stored: Tensor, scales: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        ctx.save_for_backward(stored, scales)
        ctx.dtypes = x.dtype, dtype
        with torch.autocast(device, enabled=False):
            offset = None if bias is None else bias.to(dtype)
            if scales is None:
                return F.linear(x.to(dtype), stored.to(dtype), offset)
            y = F.linear(x.to(dtype), stored.to(dtype)) * scales.to(dtype)
            return y if offset is None else y + offset

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, None, None, None]:
        stored, scales = ctx.saved_tensors
        of_input, dtype = ctx.dtypes
        with torch.autocast(grad.device.type, enabled=False):
            grad = grad.to(dtype)
            if scales is not None:
                grad = grad * scales.to(dtype)
            return (grad @ stored.to(dtype)).to(of_input), None, None, None
