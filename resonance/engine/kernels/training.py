"""Calls the C++ kernels of training's GELU and attention, which compute the same as the model's torch operations."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resonance.engine.kernels.build import interface
from resonance.engine.kernels.cross_entropy import DTYPES, kernel

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
