"""Copies to a device that the program does not wait for.

A GPU reads pinned memory by itself. From other memory, and so from a list or an index that is one, a copy first waits
for everything that the GPU still has to do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor, on the CPU, in memory that this device reads by itself."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.is_cpu else tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; to a CUDA GPU while the CPU goes on."""
    return pinned(tensor, device).to(device, non_blocking=device.type == "cuda")


def tensor_on(device: torch.device, values: Sequence[float], dtype: torch.dtype | None = None) -> Tensor:
    """A (n,) tensor of these numbers on the device, as `to_device` copies it; int64 or float32 without a `dtype`."""
    return to_device(torch.tensor(values, dtype=dtype), device)
