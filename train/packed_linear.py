"""Linear layers whose weights are cast to bfloat16 and laid out for the CPU's products once an optimiser step.

Autocast casts each weight once a micro-batch, and each product lays it out again. The float32 weights stay what trains:
outputs and their inputs' gradients are autocast's, bit for bit. The weights' gradients are summed in float32 where the
C++ kernel computes them, and rounded to bfloat16, as autocast does, where torch does. The copy that is laid out takes 2
bytes a parameter, as autocast's does; the backward pass casts each weight again, which takes some 10 ms. (Laying out
the transposed weights for it costs more at 1,024 rows than it saves.)
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from resonance.engine.kernels import training as kernels

_ops: Any = torch.ops.mkldnn  # torch's own binding of oneDNN, which its compiler uses


def pack_linears(model: nn.Module) -> None:
    """Let the model's linear layers use packed weights under CPU autocast to bfloat16; otherwise nothing changes.

    Names of parameters and of the state stay as they are.
    """
    if not torch.backends.mkldnn.is_available() or not _ops._is_mkldnn_bf16_supported():
        return
    _steps()
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = _Packed(module)  # pyright: ignore[reportAttributeAccessIssue]  # it is a callable


def autocast_to_bfloat16() -> bool:
    """Whether the CPU's operations are cast to bfloat16 now."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def packed_bytes(model: nn.Module) -> int:
    """The bytes of the copies that the model's packed layers hold under CPU autocast to bfloat16."""
    packed = (module.weight for module in model.modules() if isinstance(vars(module).get("forward"), _Packed))
    return sum(torch.bfloat16.itemsize * weight.numel() for weight in packed)  # pyright: ignore[reportCallIssue]


@cache
def _steps() -> list[int]:
    """The number of steps that optimisers of this process have taken, in a list."""
    steps = [0]

    def count(*_: object) -> None:
        steps[0] += 1

    register_optimizer_step_post_hook(count)
    return steps


class _Packed:
    """The forward pass of a layer; holds the packed weights until these change."""

    def __init__(self, linear: nn.Linear) -> None:
        self._linear = linear
        self._version: tuple[int, ...] | None = None  # of the weights that the copy has
        self._packed = torch.empty(0)

    def __call__(self, x: Tensor) -> Tensor:
        linear = self._linear
        if not autocast_to_bfloat16() or not linear.weight.is_cpu or linear.weight.dtype != torch.float32:
            return F.linear(x, linear.weight, linear.bias)
        y = _Product.apply(x, linear.weight, linear.bias, self)
        assert isinstance(y, Tensor)
        return y

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute x W^T + bias in bfloat16."""
        weight = self._linear.weight
        version = (_steps()[0], weight._version, weight.data_ptr())  # a fused optimiser leaves torch's version as it is
        if version != self._version:
            self._version = version
            self._packed = _ops._reorder_linear_weight(weight.detach().to(torch.bfloat16), x.shape[:-1].numel())
        return _ops._linear_pointwise(x, self._packed, bias, "none", [], "")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, packed: _Packed
    ) -> Tensor:
        ctx.dtypes = x.dtype, weight.dtype
        x = x.to(torch.bfloat16)
        ctx.save_for_backward(x, weight)
        return packed.multiply(x, None if bias is None else bias.to(torch.bfloat16))

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_input, of_weight = ctx.dtypes
        needs_input, needs_weight, needs_bias, _ = ctx.needs_input_grad
        rows, inputs = grad.flatten(0, -2), x.flatten(0, -2)  # (N, out), (N, in)
        of_inputs = (grad @ weight.to(torch.bfloat16)).to(of_input) if needs_input else None
        if needs_weight and of_weight == torch.float32 and kernels.can_multiply(rows, inputs):
            return of_inputs, *kernels.weight_gradient(rows, inputs, bias=needs_bias), None
        return (
            of_inputs,
            (rows.T @ inputs).to(of_weight) if needs_weight else None,
            rows.sum(0).to(of_weight) if needs_bias else None,
            None,
        )
