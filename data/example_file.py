"""Examples in a file: written one by one, read back one by one in any order, without holding them in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from data.example import Example

TEXTS, ENDS, ROWS = "examples.jsonl", "examples.ends.npy", "examples.rows.npy"


class ExampleWriter:
    """Writes examples to a folder: their JSON, where each ends in the file (bytes), and their rows (0: none)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / TEXTS).open("wb")
        self._ends, self._rows = bytearray(), bytearray()
        self._size = 0

    def add(self, example: Example) -> None:
        """Write the next example."""
        line = example.to_json() + b"\n"
        self._file.write(line)
        self._size += len(line)
        self._ends += np.int64(self._size).tobytes()
        self._rows += np.int64(example.row or 0).tobytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write what is left."""
        self._file.close()
        np.save(self._folder / ENDS, np.frombuffer(self._ends, np.int64))
        np.save(self._folder / ROWS, np.frombuffer(self._rows, np.int64))


class ExampleFile:
    """What an ExampleWriter has written to a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: NDArray[np.int64] = np.load(folder / ENDS)
        self._rows: NDArray[np.int64] = np.load(folder / ROWS)
        self._file = (folder / TEXTS).open("rb")

    def __len__(self) -> int:
        return len(self._ends)

    def __reduce__(self) -> tuple[Any, ...]:
        return ExampleFile, (self._folder,)

    def json(self, i: int) -> bytes:
        """Return an example's canonical JSON."""
        start = int(self._ends[i - 1]) if i else 0
        return os.pread(self._file.fileno(), int(self._ends[i]) - start - 1, start)

    def example(self, i: int) -> Example:
        """Return an example."""
        return Example.from_json(self.json(i), int(self._rows[i]) or None)


class StoredExamples(Sequence[Example]):
    """One split: the examples of a file with these indices. indices: (n,) int64."""

    def __init__(self, file: ExampleFile, indices: NDArray[np.int64]) -> None:
        self.file, self.indices = file, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        """Read an example, or a part of the split, whose examples are read when they are used."""
        if isinstance(index, slice):
            return StoredExamples(self.file, self.indices[index])
        return self.file.example(int(self.indices[index]))
