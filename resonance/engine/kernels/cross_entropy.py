"""Calls the C++ kernel of training's cross-entropy, which visits each row of logits once."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from resonance.engine.kernels.build import KernelsUnavailable, interface, library

DTYPES = (torch.float32, torch.bfloat16)
LANES = 16  # the rows of logits are a multiple of it wide


@cache
def kernel() -> Any:
    """The library with the kernel, built on first use; None where it is unavailable."""
    try:
        return library()
    except KernelsUnavailable:
        return None


def cross_entropy_(
    logits: Tensor,
    vocab_size: int,
    targets: Tensor,
    *,
    log_weights: Tensor | None = None,
    scales: Tensor | None = None,
    smoothing: float = 0.0,
    gradient: bool = True,
) -> Tensor:
    """The cross-entropy of each row, (n,) float32; with `gradient`, the gradient of their sum replaces the logits.

    logits: (n, P) float32 or bfloat16, contiguous, on the CPU; P is a multiple of LANES, and columns from `vocab_size`
    on are padding, whose gradient is 0. targets: (n,) int64. log_weights: (P,) float32, added to the logits. scales:
    (n,) float32, multiply the losses. smoothing: the share of the target's probability that is spread over all tokens.
    The caller has checked that there is a `kernel`.
    """
    assert logits.is_contiguous() and logits.dtype in DTYPES and logits.shape[1] % LANES == 0
    ffi = interface()

    def address(tensor: Tensor | None) -> Any:
        return ffi.NULL if tensor is None else ffi.cast("void *", tensor.data_ptr())

    inputs = [None if tensor is None else tensor.float().contiguous() for tensor in (log_weights, scales)]
    targets, losses = targets.contiguous(), torch.empty(len(logits))
    call = {
        "logits": address(logits),
        "targets": address(targets),
        "log_weights": address(inputs[0]),
        "scales": address(inputs[1]),
        "losses": address(losses),
        "smoothing": smoothing,
        "rows": len(logits),
        "vocab_size": vocab_size,
        "padded_vocab_size": logits.shape[1],
        "bf16": int(logits.dtype == torch.bfloat16),
        "gradient": int(gradient),
        "threads": torch.get_num_threads(),
    }
    kernel().resonance_cross_entropy(ffi.new("CrossEntropyCall *", call))
    return losses
