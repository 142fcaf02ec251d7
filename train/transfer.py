"""Copies of tensors to a device that the program does not wait for."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; to a CUDA GPU from pinned memory, while the CPU goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    if tensor.is_cpu and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
