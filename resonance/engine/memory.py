"""Memory in large pages, where the system has them.

Weights are read from end to end for every token. In pages of 4 KB much of that time goes to looking up where the
pages are, in a virtual machine twice over; in pages of 2 MB hardly any.
"""

import math
import mmap
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

PAGE = 2 << 20
ALIGNED = 64  # a cache line, and the widest vector


class Arena:
    """A stretch of memory that is given out front to back; only what was written takes room."""

    def __init__(self, nbytes: int) -> None:
        if sys.platform == "win32":
            mapped = mmap.mmap(-1, nbytes + 2 * PAGE)
        else:  # private, for which large pages are to be had
            mapped = mmap.mmap(-1, nbytes + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if sys.platform == "linux":
            mapped.madvise(mmap.MADV_HUGEPAGE)
        self._memory = torch.frombuffer(mapped, dtype=torch.uint8)
        self._begin = self._next = -self._memory.data_ptr() % PAGE

    @property
    def nbytes(self) -> int:
        """How much was given out."""
        return self._next - self._begin

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor in this memory, zero until it is written. Raises ValueError when the arena is full."""
        size = math.prod(shape) * dtype.itemsize
        start = self._next
        if start + size > len(self._memory):
            raise ValueError(f"An arena of {len(self._memory)} bytes has no room for {size} more.")
        self._next = -(-(start + size) // ALIGNED) * ALIGNED
        return self._memory[start : start + size].view(dtype).view(*shape)

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor in this memory."""
        return self.empty(tensor.shape, tensor.dtype).copy_(tensor)
