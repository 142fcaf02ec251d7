"""The source of what readers judged: a file of `resonance feedback export`, which says how it is split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from data import DataError
from data.example import Example, SplitIndices, Splits
from data.files import Row, read_file
from data.formats import read_rows
from data.repetitions import deduplicate_mode, leakage_mode
from data.sources import Source

Learn: TypeAlias = Literal["examples", "pairs", "votes"]

_KINDS: dict[Learn, tuple[str, ...]] = {"examples": ("example",), "pairs": ("pair",), "votes": ("vote", "pair")}
_OF_OBJECTIVE: dict[str, Learn] = {"DPO": "pairs", "KTO": "votes"}  # by the class's name


class FeedbackSource(Source):
    """Examples, pairs or votes of one file, in the splits that the file names.

    `learn=auto` takes what the run's objective needs: pairs for DPO, votes (pairs count as two) for KTO, else examples.
    """

    def __init__(
        self,
        path: str | None,
        *,
        learn: str = "auto",
        run_objective: str | None = None,
        deduplicate: object = None,
        leakage: str = "remove",
    ) -> None:
        self.deduplicate, self.leakage = deduplicate_mode(deduplicate), leakage_mode(leakage)
        if not path:
            raise DataError(
                "No file is given; write one with `resonance feedback export out=FILE`, then data.path=FILE."
            )
        known = {name: name for name in get_args(Learn)}
        known["auto"] = _OF_OBJECTIVE.get((run_objective or "").rpartition(".")[2], "examples")
        if learn not in known:
            raise DataError(f"data.learn must be auto, examples, pairs or votes, not {learn!r}.")
        self.path = path
        self.learn: Learn = known[learn]

    @property
    def name(self) -> str:
        """The path, as configured."""
        return self.path

    def cache_key(self) -> str:
        """The file's SHA-256, and what is read of it."""
        with self._file().open("rb") as file:
            return f"{hashlib.file_digest(file, 'sha256').hexdigest()} {self.learn}"

    def read(self) -> Splits:
        """Read the file."""
        examples: list[Example] = []
        return self.write(examples.append).splits(examples)

    def write(self, add: Callable[[Example], None]) -> SplitIndices:
        """Read the rows of the kinds to learn, one in memory at a time."""
        rows = self._rows()
        splits: list[list[int]] = [[], [], []]
        names = ("train", "validation", "test")
        split_of = [str(row.get("split")) for row in rows]
        columns = sorted({column for row in rows for column, value in row.items() if value is not None})
        kept: list[str] = []

        def take(example: Example) -> None:
            assert example.row is not None
            kept.append(split_of[example.row - 1])
            add(example)

        _, unusable = read_rows(rows, columns, self.path, take)
        for index, split in enumerate(kept):
            if split not in names:
                raise DataError(f"{self.path} has a row of the split {split!r}; known are {', '.join(names)}.")
            splits[names.index(split)].append(index)
        train, validation, test = (np.array(part, np.int64) for part in splits)
        return SplitIndices(train, validation, test, unusable)

    def judgements(self) -> dict[bytes, Row]:
        """The file's rows, which say where they come from, by the canonical JSON of the example that each makes."""
        rows = self._rows()
        columns = sorted({column for row in rows for column, value in row.items() if value is not None})
        found: dict[bytes, Row] = {}

        def take(example: Example) -> None:
            assert example.row is not None
            found.setdefault(example.to_json(), rows[example.row - 1])

        read_rows(rows, columns, self.path, take)
        return found

    def _rows(self) -> list[Row]:
        """The rows of the kinds to learn."""
        table = read_file(self._file(), "json", self.path)
        if not {"kind", "split"} <= set(table.columns):
            raise DataError(f"{self.path} was not written by `resonance feedback export`: it has no kind and split.")
        rows = [row for row in table.rows if row.get("kind") in _KINDS[self.learn]]
        if not rows:
            raise DataError(f"{self.path} has no {self.learn} to learn from; `resonance feedback` shows what there is.")
        return rows

    def _file(self) -> Path:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise DataError(f"There is no file {self.path}; `resonance feedback export out=FILE` writes one.")
        return path
