"""Huge pages for weights and caches, and the release of memory that is no longer needed.

Every token reads all weights. With pages of 4 KB address translation can take much of that time, and twice as much in a
virtual machine; with pages of 2 MB it takes hardly any.
"""

import ctypes
import math
import mmap
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

HUGE_PAGE = 2 << 20
ALIGNMENT = 64  # a cache line, and the widest vector


class Arena:
    """A bump allocator over one mapping with huge pages, which takes physical memory only where it is written."""

    def __init__(self, nbytes: int) -> None:
        if sys.platform == "win32":
            mapped = mmap.mmap(-1, nbytes + 2 * HUGE_PAGE)
        else:  # private: only such mappings get huge pages
            mapped = mmap.mmap(-1, nbytes + 2 * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if sys.platform == "linux":
            mapped.madvise(mmap.MADV_HUGEPAGE)
        self._memory = torch.frombuffer(mapped, dtype=torch.uint8)
        self._first = self._next = -self._memory.data_ptr() % HUGE_PAGE

    @property
    def nbytes(self) -> int:
        """The number of bytes allocated."""
        return self._next - self._first

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor in this memory, zero until it is written. Raises ValueError when the arena is full."""
        size = math.prod(shape) * dtype.itemsize
        start = self._next
        if start + size > len(self._memory):
            raise ValueError(f"An arena of {len(self._memory)} bytes cannot hold {size} more.")
        self._next = -(-(start + size) // ALIGNMENT) * ALIGNMENT
        return self._memory[start : start + size].view(dtype).view(*shape)


class MappedFiles:
    """The memory ranges that are unmodified mappings of files (on Linux; elsewhere none)."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        smaps = Path("/proc/self/smaps")
        inode, first, last = "0", 0, 0
        for line in smaps.read_text(encoding="utf-8").splitlines() if smaps.is_file() else ():
            name, *values = line.split()
            if not name.endswith(":"):
                first, last = (int(address, 16) for address in name.split("-"))
                inode = values[3]
            elif name == "Anonymous:" and inode != "0" and values[0] == "0":
                self._ranges.append((first, last))

    def release(self, tensor: Tensor) -> None:
        """Drop a tensor's pages from memory if they map a file; a later access reads them again."""
        first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        nbytes = tensor.data_ptr() + tensor.nbytes - first
        if any(start <= first and first + nbytes <= end for start, end in self._ranges):
            madvise = ctypes.CDLL(None).madvise
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(nbytes), ctypes.c_int(mmap.MADV_DONTNEED))


def trim_malloc() -> None:
    """Return the memory that malloc keeps after frees to the system (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
