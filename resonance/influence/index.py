"""The index of a run's training examples: their projected gradients, and what they say; in the run's folder.

`resonance explain` writes it, and commands and servers read it. It has three files:

    explain/index.json        what the gradients are of, and how many of the examples have theirs
    explain/gradients.npy     (n, side * side) int8: the gradients, each scaled to its own largest number
    explain/examples.jsonl    a line an example: kind, times, prompt, answer, and where it comes from
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resonance.atomic_files import write_text_atomically
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.private_files import FILE, private_folder

FOLDER = "explain"  # in the run's folder
VERSION = 2  # of what is computed
RECORD, GRADIENTS, EXAMPLES = "index.json", "gradients.npy", "examples.jsonl"
_BLOCK = 1024  # gradients in float32 at once


class NoIndex(ResonanceError):
    """A checkpoint without an index, or with one of other weights."""


@dataclass(frozen=True, slots=True)
class Record:
    """What an index is of. Examples that are not among `examples` were left out at random.

    `crc32` is the weights' checksum, and `data` the fingerprint of what the run was trained on.
    """

    version: int
    crc32: str | None
    data: str
    parameters: str  # "the last block" or "the adapter"
    side: int
    training_examples: int
    examples: int

    def to_json(self, done: int) -> str:
        """The record's file; `done` examples have their gradients."""
        return json.dumps({**asdict(self), "done": done}, indent=2) + "\n"


@dataclass(frozen=True, slots=True)
class Influence:
    """An example's position in the index, and the cosine of its gradient with the answer's, -1 to 1."""

    score: float
    position: int


class InfluenceIndex:
    """A complete index, mapped from its files."""

    def __init__(self, folder: Path, record: Record) -> None:
        self._folder, self.record = folder, record
        self._gradients: NDArray[np.int8] = np.load(folder / GRADIENTS, mmap_mode="r")

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> InfluenceIndex:
        """Open a checkpoint's index. Raises NoIndex where it has none, or an unfinished one, or an old one."""
        folder = checkpoint.folder / FOLDER
        make = f"`resonance explain {checkpoint.name} prompt=... answer=...` makes one"
        found = read_record(folder)
        if found is None:
            raise NoIndex(f"{checkpoint.name} has no index of its training examples; {make}.")
        record, done = found
        if record.crc32 != checkpoint.crc32 or record.version != VERSION:
            raise NoIndex(f"The index of {checkpoint.name}'s training examples is of other weights; {make}.")
        if done < record.examples:
            raise NoIndex(f"The index of {checkpoint.name}'s training examples is unfinished; {make}.")
        return cls(folder, record)

    def rank(self, gradient: NDArray[np.float32], count: int) -> list[Influence]:
        """The examples by falling score; `gradient` (side * side,) is the answer's."""
        answer = gradient / (np.linalg.norm(gradient) or 1)
        scores = np.zeros(len(self._gradients), np.float32)
        for start in range(0, len(scores), _BLOCK):
            rows = self._gradients[start : start + _BLOCK].astype(np.float32)
            lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
            scores[start : start + _BLOCK] = (rows @ answer) / np.where(lengths == 0, 1, lengths)
        return [Influence(float(scores[i]), int(i)) for i in np.argsort(-scores, kind="stable")[:count]]

    def example(self, position: int) -> dict[str, Any]:
        """What the index says of an example."""
        return json.loads(self._lines[position])

    @cached_property
    def _lines(self) -> list[bytes]:
        return (self._folder / EXAMPLES).read_bytes().splitlines()


def read_record(folder: Path) -> tuple[Record, int] | None:
    """An index's record, and how many examples have their gradients; None without an index that can be read."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        done = int(values.pop("done"))
        return Record(**values), done
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class IndexWriter:
    """Writes an index; what an interrupted writer of the same record had done stays."""

    def __init__(self, folder: Path, record: Record, examples: Sequence[Mapping[str, Any]]) -> None:
        """`examples` are what the index says of each, in the order of their positions."""
        self._folder, self._record = private_folder(folder), record
        found = read_record(folder) if (folder / GRADIENTS).is_file() else None
        self.done = found[1] if found is not None and found[0] == record else 0
        shape = (record.examples, record.side**2)
        if not self.done:
            for old in folder.iterdir():  # of other weights or other data
                old.unlink()
            lines = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
            write_text_atomically(folder / EXAMPLES, lines, FILE)
        mode = "r+" if self.done else "w+"
        self._gradients = np.lib.format.open_memmap(folder / GRADIENTS, mode, dtype=np.int8, shape=shape)

    def add(self, positions: Sequence[int], gradients: NDArray[np.float32]) -> None:
        """Write the gradients (n, side * side) of the next examples."""
        largest = np.abs(gradients).max(1, keepdims=True)
        scaled = gradients * (np.iinfo(np.int8).max / np.where(largest == 0, 1, largest))
        self._gradients[list(positions)] = np.rint(scaled).astype(np.int8)
        self.done += len(positions)

    def save(self) -> None:
        """Let what was written survive a kill."""
        self._gradients.flush()
        write_text_atomically(self._folder / RECORD, self._record.to_json(self.done), FILE)
