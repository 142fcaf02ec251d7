"""int8 and int4 weights on a GPU: converted in registers by a Triton kernel, or in a temporary copy of a matrix.

A few rows are bound by reading the weights, so the kernel reads them in their few bits. Many rows are bound by
multiplying, which the library's product does best on weights in the activations' type. int4 levels stand two in a byte:
of each 64 inputs, byte i holds input i in its low half and input i + 32 in its high half, each with its group's scale.
"""

from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resonance.engine.quantization import INT4_GROUP, Precision, fake_quantize, quantize_int4, quantize_int8
from resonance.model import GPT2
from resonance.model_config import GPT2Config

Bits = Literal[8, 4]
BLOCK = 2 * INT4_GROUP  # inputs whose int4 levels are packed together
KERNEL_ROWS = 64  # more rows than these are multiplied with converted weights


class QuantizedMatrix(nn.Module):
    """(outputs, inputs) levels and scales of int8 by output, or of int4 by group of 32 inputs."""

    def __init__(self, weight: Tensor, bits: Bits) -> None:
        super().__init__()
        self.bits, self.inputs, self.dtype = bits, weight.shape[1], torch.bfloat16
        if bits == 8:
            levels, scale = quantize_int8(weight)
        else:
            levels, scale = quantize_int4(F.pad(weight.float(), (0, -self.inputs % BLOCK)))
            levels = pack_int4(levels)
        self.levels = nn.Parameter(levels, requires_grad=False)  # int8 (outputs, inputs), or uint8, half as wide
        self.scale = nn.Parameter(scale, requires_grad=False)  # fp32 (outputs,), or bf16 (outputs, groups)

    @property
    def weight(self) -> Tensor:
        """The levels, whose device is the matrix's."""
        return self.levels

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the matrix in bf16: ids (...) -> (..., inputs)."""
        if self.bits == 8:
            return (self.levels[ids] * self.scale[ids][..., None]).to(self.dtype)
        return dequantize_int4(self.levels[ids], self.scale[ids], self.dtype)[..., : self.inputs]

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., inputs) times the transposed matrix -> (..., outputs), in the type of `x`."""
        rows = x.reshape(-1, self.inputs)
        if rows.device.type == "cuda" and len(rows) <= KERNEL_ROWS and find_spec("triton"):
            y = torch.ops.resonance.quantized_linear(rows.contiguous(), self.levels, self.scale, bias)
        elif self.bits == 8:
            y = F.linear(rows, self.levels.to(x.dtype)) * self.scale.to(x.dtype)
            y = y if bias is None else y + bias
        else:
            y = F.linear(rows, dequantize_int4(self.levels, self.scale, x.dtype)[:, : self.inputs], bias)
        return y.view(*x.shape[:-1], -1)


class QuantizedLinear(nn.Module):
    """A linear layer of a quantized matrix."""

    def __init__(self, matrix: QuantizedMatrix, bias: Tensor | None = None) -> None:
        super().__init__()
        self.matrix, self.bias = matrix, None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix.multiply(x, self.bias)


class QuantizedEmbedding(nn.Module):
    """An embedding whose rows are converted as they are looked up."""

    def __init__(self, matrix: QuantizedMatrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, ids: Tensor) -> Tensor:
        return self.matrix.rows(ids)


class QuantizedGPT2(GPT2):
    """GPT-2 whose matrices are quantized; everything else is bf16."""

    @property
    def head_weight(self) -> Tensor:
        """The head's levels."""
        return self._head_matrix.levels

    def logits(self, hidden_states: Tensor) -> Tensor:
        """See GPT2."""
        return self._head_matrix.multiply(hidden_states)

    @property
    def _head_matrix(self) -> QuantizedMatrix:
        layer: Any = self.token_embedding if self.head is None else self.head
        return layer.matrix


@torch.no_grad()
def quantized(model: GPT2, precision: Precision) -> GPT2:
    """A copy of the model for inference: in fp32 or bf16, or with matrices that are stored in int8 or int4."""
    if precision not in ("int8", "int4"):
        return fake_quantize(model, precision)
    bits: Bits = 8 if precision == "int8" else 4
    state = dict(model.state_dict())
    matrices = {
        name: QuantizedMatrix(state.pop(name), bits)
        for name, tensor in model.state_dict().items()
        if tensor.dim() == 2 and name != "position_embedding.weight"
    }
    copy = _empty(model.config)
    for name, matrix in matrices.items():
        path = name.removesuffix(".weight")
        parent, _, child = path.rpartition(".")
        bias = state.pop(f"{path}.bias", None)
        layer = QuantizedLinear(matrix, None if bias is None else bias.to(matrix.dtype))
        setattr(copy.get_submodule(parent), child, QuantizedEmbedding(matrix) if child == "token_embedding" else layer)
    copy.load_state_dict({name: t.to(torch.bfloat16) for name, t in state.items()}, strict=False, assign=True)
    return copy.eval()


def pack_int4(levels: Tensor) -> Tensor:
    """(outputs, inputs) levels in [-8, 7] -> (outputs, inputs / 2) uint8; inputs are a multiple of 64."""
    low, high = (levels + 8).to(torch.uint8).unflatten(1, (-1, 2, INT4_GROUP)).unbind(2)  # (outputs, blocks, 32) each
    return (low | (high << 4)).flatten(1)


def dequantize_int4(packed: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., inputs / 2) levels of `pack_int4` and (..., inputs / 32) scales -> (..., inputs) in `dtype`."""
    packed = packed.unflatten(-1, (-1, 1, INT4_GROUP))
    levels = torch.cat([packed & 15, packed >> 4], -2).to(dtype) - 8  # (..., blocks, 2, 32)
    return (levels * scale.to(dtype).unflatten(-1, (-1, 2))[..., None]).flatten(-3)


def _empty(config: GPT2Config) -> QuantizedGPT2:
    with torch.device("meta"):
        return QuantizedGPT2(config)


@torch.library.custom_op("resonance::quantized_linear", mutates_args=())
def _quantized_linear(x: Tensor, levels: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    from resonance.engine.quantized_linear_kernel import launch  # which imports Triton

    return launch(x, levels, scale, bias)


@_quantized_linear.register_fake
def _(x: Tensor, levels: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], levels.shape[0])
