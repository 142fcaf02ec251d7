"""Calls training's C++ kernels, which compute the same as torch: GELU, attention, normalisation, weights' gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resonance.engine.kernels.build import interface
from resonance.engine.kernels.cross_entropy import DTYPES, kernel

PACKED_ROWS = 1024  # rows of a product that are laid out at once
LANES = 16  # the number of elements, and the width of a head, are a multiple of it


def can_compute(tensor: Tensor) -> bool:
    """Whether the kernels take tensors of this type, on this device and machine."""
    return tensor.is_cpu and tensor.dtype in DTYPES and tensor.shape[-1] % LANES == 0 and kernel() is not None


def gelu(inputs: Tensor, gradient: Tensor | None = None) -> Tensor:
    """GELU in its tanh form, any shape to the same one; with the outputs' gradient, the inputs' gradient.

    The caller has checked `can_compute`.
    """
    inputs = inputs.contiguous()
    outputs = torch.empty_like(inputs)
    if gradient is not None:
        gradient = gradient.to(inputs.dtype).contiguous()
    call = {
        "inputs": _address(inputs),
        "gradient": _address(gradient),
        "outputs": _address(outputs),
        "count": inputs.numel(),
        "bf16": int(inputs.dtype == torch.bfloat16),
        "threads": torch.get_num_threads(),
    }
    kernel().resonance_gelu(interface().new("GeluCall *", call))
    return outputs


def layer_norm(inputs: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalisation of rows, (..., C) float32 to bfloat16; and their means and scales, (rows,) float32 each.

    The scales are 1 / standard deviation; both are for `layer_norm_gradient`. The caller has checked `can_compute`.
    """
    inputs = inputs.contiguous()
    rows = inputs.numel() // inputs.shape[-1]
    outputs, means, scales = torch.empty_like(inputs, dtype=torch.bfloat16), torch.empty(rows), torch.empty(rows)
    call = {"weight": weight, "bias": bias, "outputs": outputs, "means": means, "scales": scales}
    _call_layer_norm(inputs, call, epsilon)
    return outputs, means, scales


def layer_norm_gradient(
    inputs: Tensor, weight: Tensor, means: Tensor, scales: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of inputs, (..., C) float32, weight and bias, (C,), from that of the outputs, (..., C) bfloat16."""
    inputs, gradient = inputs.contiguous(), gradient.to(torch.bfloat16).contiguous()
    of_inputs, of_weight, of_bias = torch.empty_like(inputs), torch.empty_like(weight), torch.empty_like(weight)
    gradients = {"inputs_gradient": of_inputs, "weight_gradient": of_weight, "bias_gradient": of_bias}
    saved = {"weight": weight, "means": means, "scales": scales, "gradient": gradient}
    _call_layer_norm(inputs, saved | gradients)
    return of_inputs, of_weight, of_bias


def _call_layer_norm(inputs: Tensor, tensors: dict[str, Tensor], epsilon: float = 0.0) -> None:
    width = inputs.shape[-1]
    addresses = {name: _address(tensor) for name, tensor in tensors.items()}
    sizes = {"epsilon": epsilon, "rows": inputs.numel() // width, "width": width, "threads": torch.get_num_threads()}
    call = {"inputs": _address(inputs), **addresses, **sizes}
    kernel().resonance_layer_norm(interface().new("LayerNormCall *", call))


def document_attention(qkv: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Causal attention inside documents of these `lengths`, (N, 3, H, D) -> (N, H, D), and log-sums, (H, N) float32.

    The log-sums are for `document_attention_gradient`. The caller has checked `can_compute`.
    """
    N, _, H, D = qkv.shape
    qkv = qkv.contiguous()
    out, log_sums = qkv.new_empty(N, H, D), torch.empty(H, N)
    _call_attention(qkv, lengths, out, log_sums)
    return out, log_sums


def document_attention_gradient(
    qkv: Tensor, lengths: Sequence[int], out: Tensor, log_sums: Tensor, gradient: Tensor
) -> Tensor:
    """The gradient of `qkv`, (N, 3, H, D), from that of `out`, (N, H, D) each."""
    qkv_gradient = torch.empty_like(qkv)
    _call_attention(qkv, lengths, out, log_sums, gradient.to(qkv.dtype).contiguous(), qkv_gradient)
    return qkv_gradient


def can_multiply(gradient: Tensor, inputs: Tensor) -> bool:
    """Whether `weight_gradient` takes these tensors, and is faster than torch on this machine."""
    tensors = gradient, inputs
    return all(tensor.dtype == torch.bfloat16 and can_compute(tensor) for tensor in tensors) and bool(
        kernel().resonance_weight_gradient_pays()
    )


def weight_gradient(
    gradient: Tensor, inputs: Tensor, *, bias: bool = False, add_to: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """A linear layer's gradient of its weights, (M, K) float32, and with `bias` of its bias, (M,) float32.

    gradient: that of its outputs, (N, M); inputs: (N, K); both bfloat16, M and K multiples of LANES. `add_to` (M, K)
    float32 is added to in place, and returned. The caller has checked `can_multiply`.
    """
    gradient, inputs = gradient.contiguous(), inputs.contiguous()
    N, M, K = *gradient.shape, inputs.shape[1]
    weight_gradient = torch.empty(M, K) if add_to is None else add_to
    bias_gradient = torch.empty(M) if bias else None
    scratch = inputs.new_empty(min(N + N % 2, PACKED_ROWS), K)
    call = {
        "gradient": _address(gradient),
        "inputs": _address(inputs),
        "weight_gradient": _address(weight_gradient),
        "bias_gradient": _address(bias_gradient),
        "scratch": _address(scratch),
        "rows": N,
        "n_outputs": M,
        "n_inputs": K,
        "add": int(add_to is not None),
        "threads": torch.get_num_threads(),
    }
    kernel().resonance_weight_gradient(interface().new("WeightGradientCall *", call))
    return weight_gradient, bias_gradient


def _call_attention(
    qkv: Tensor,
    lengths: Sequence[int],
    out: Tensor,
    log_sums: Tensor,
    gradient: Tensor | None = None,
    qkv_gradient: Tensor | None = None,
) -> None:
    N, _, H, D = qkv.shape
    starts = torch.tensor([0, *lengths]).cumsum(0)
    assert int(starts[-1]) == N and qkv.is_contiguous()
    call = {
        "qkv": _address(qkv),
        "out": _address(out),
        "log_sums": _address(log_sums),
        "gradient": _address(gradient),
        "qkv_gradient": _address(qkv_gradient),
        "starts": _address(starts),
        "documents": len(lengths),
        "heads": H,
        "head_dim": D,
        "bf16": int(qkv.dtype == torch.bfloat16),
        "threads": torch.get_num_threads(),
    }
    kernel().resonance_document_attention(interface().new("DocumentAttentionCall *", call))


def _address(tensor: Tensor | None) -> Any:
    ffi = interface()
    return ffi.NULL if tensor is None else ffi.cast("void *", tensor.data_ptr())
