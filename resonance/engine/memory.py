"""Memory in large pages, where the system has them, and pages given back.

Weights are read from end to end for every token. In pages of 4 KB much of that time can go to looking up where the
pages are, in a virtual machine twice over; in pages of 2 MB hardly any.
"""

import ctypes
import math
import mmap
import sys
from collections.abc import Sequence
from pathlib import Path

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


class MappedFiles:
    """The stretches of memory that hold a file's content, unchanged, at present (Linux; elsewhere none are known)."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int]] = []
        smaps = Path("/proc/self/smaps")
        inode, first, last = "0", 0, 0
        for line in smaps.read_text(encoding="utf-8").splitlines() if smaps.is_file() else ():
            name, *values = line.split()
            if not name.endswith(":"):
                first, last = (int(address, 16) for address in name.split("-"))
                inode = values[3]
            elif name == "Anonymous:" and inode != "0" and values[0] == "0":
                self._stretches.append((first, last))

    def give_back(self, tensor: Tensor) -> None:
        """Take the pages behind a tensor out of this process, if they are a file's; used again, they come back."""
        first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        nbytes = tensor.data_ptr() + tensor.nbytes - first
        if any(begin <= first and first + nbytes <= end for begin, end in self._stretches):
            madvise = ctypes.CDLL(None).madvise
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(nbytes), ctypes.c_int(mmap.MADV_DONTNEED))


def give_back_freed() -> None:
    """Hand back to the system what malloc keeps of freed memory, where it can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
