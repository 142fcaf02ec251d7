"""GGML's number formats: how llama.cpp packs a row of weights, in numpy.

It knows arrays, not models. The two quantised ones share a scale (float16) among 32 neighbours. Source: ggml's
ggml-quants.c (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`), whose results these are bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 32  # numbers that share a scale
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Format:
    """A format's number in ggml, its number as a whole file's in llama.cpp, and how rows of it are packed."""

    ggml_type: int
    file_type: int
    block: int  # numbers in the smallest piece
    block_bytes: int
    pack: Callable[[Tensor], Bytes]

    def nbytes(self, numbers: int) -> int:
        """Bytes for so many numbers, a multiple of the block."""
        return numbers // self.block * self.block_bytes


def _cast(dtype: torch.dtype) -> Callable[[Tensor], Bytes]:
    def pack(tensor: Tensor) -> Bytes:
        return tensor.detach().to(dtype).contiguous().reshape(-1).view(torch.uint8).numpy()

    return pack


def _blocks(tensor: Tensor) -> Floats:
    return tensor.detach().float().reshape(-1, BLOCK).numpy()


def _inverse(scale: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.where(scale == 0, np.float32(0), np.float32(1) / scale)


def pack_q8_0(tensor: Tensor) -> Bytes:
    """Each block as its scale and 32 signed bytes."""
    blocks = _blocks(tensor)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * _inverse(scale)
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))  # halves away from zero, as C's roundf
    return np.concatenate([scale.astype("<f2").view(np.uint8), rounded.astype(np.int8).view(np.uint8)], axis=1)


def pack_q4_0(tensor: Tensor) -> Bytes:
    """Each block as its scale and 32 numbers of four bits from -8 on; the first 16 are the lower halves of bytes."""
    blocks = _blocks(tensor)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-8)  # so that the largest number, whichever its sign, is -8 exactly
    shifted = np.trunc(blocks * _inverse(scale) + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    packed = shifted[:, : BLOCK // 2] | shifted[:, BLOCK // 2 :] << np.uint8(4)
    return np.concatenate([scale.astype("<f2").view(np.uint8), packed], axis=1)


FORMATS = {
    "f32": Format(0, 0, 1, 4, _cast(torch.float32)),
    "f16": Format(1, 1, 1, 2, _cast(torch.float16)),
    "bf16": Format(30, 32, 1, 2, _cast(torch.bfloat16)),
    "q8_0": Format(8, 7, BLOCK, 2 + BLOCK, pack_q8_0),
    "q4_0": Format(2, 2, BLOCK, 2 + BLOCK // 2, pack_q4_0),
}
