"""Streams of rows: JSONL and Parquet files and data sets of the Hub, read from any position on.

A row is in memory at a time. A position is made of plain values, so that it can be saved. Knows nothing of the columns'
meaning.
"""

from __future__ import annotations

import glob
import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

from data import DataError
from data.files import KINDS, PARQUET_ROWS, Row, parquet_errors, preview
from data.hub import stream_split

Position: TypeAlias = Mapping[str, Any]

MAX_LINE = 1 << 26  # bytes; a longer line would be held in memory
END_BYTES = 1 << 20  # of a file's start and end that its identity is made of
STREAMED = ("json", "parquet")  # kinds of files


class Cursor(ABC):
    """An iterator over the rows of one pass, each with its number in its file or data set, from 1.

    `position` is that after the last row, and `where` names what the row is in. `count` is the number of rows since
    the start of the pass.
    """

    where: str
    count: int = 0

    @property
    @abstractmethod
    def position(self) -> Position:
        """Where another cursor of the same pass can go on."""

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Read on."""


class RowStream(ABC):
    """Rows that are read again at each pass."""

    @abstractmethod
    def open(self, order: str, position: Position | None = None) -> Cursor:
        """Begin a pass, or continue one. `order` is the seed of the order of files."""

    @abstractmethod
    def identity(self) -> str:
        """SHA-256 (hex) of what tells this data from other data, computed without reading all of it."""


class FileStream(RowStream):
    """JSONL and Parquet files: a path, or a pattern such as `shards/*.jsonl`.

    Raises DataError where there is no such file, and for kinds of files that cannot be read from a position on.
    """

    def __init__(self, path: str) -> None:
        if path.startswith(("http://", "https://")):
            raise DataError(f"{path} cannot be streamed; download it, or set data.streaming=false.")
        expanded = str(Path(path).expanduser())
        found = [expanded] if Path(expanded).is_file() else sorted(glob.glob(expanded, recursive=True))  # noqa: PTH207  # takes absolute patterns
        self._files = [Path(name) for name in found if Path(name).is_file()]
        if not self._files:
            raise DataError(f"There is no file {path}; give the path of JSONL or Parquet files, or a pattern of paths.")
        for file in self._files:
            if KINDS.get(file.suffix.lower()) not in STREAMED:
                raise DataError(
                    f"{file} cannot be streamed; write it as JSONL or Parquet, or set data.streaming=false."
                )

    def open(self, order: str, position: Position | None = None) -> Cursor:
        """Read the files in an order that the seed determines."""
        files = list(self._files)
        random.Random(order).shuffle(files)
        return _FileCursor(files, position)

    def identity(self) -> str:
        """Hash the files' names and sizes, and the first and last MiB of each."""
        digest = hashlib.sha256()
        for path in self._files:
            try:
                with path.open("rb") as file:
                    size = path.stat().st_size
                    digest.update(f"{path.name}\0{size}\0".encode() + file.read(END_BYTES))
                    file.seek(max(0, size - END_BYTES))
                    digest.update(file.read(END_BYTES))
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        return digest.hexdigest()


class _FileCursor(Cursor):
    def __init__(self, files: Sequence[Path], position: Position | None) -> None:
        self._files = files
        # The file; bytes (JSONL) or rows (Parquet) of it that are read; the number of its last row or line.
        start = position or {"file": 0, "offset": 0, "row": 0, "count": 0}
        self._file, self._offset, self._row = int(start["file"]), int(start["offset"]), int(start["row"])
        self.count = int(start["count"])
        self.where = str(files[0])

    @property
    def position(self) -> Position:
        return {"file": self._file, "offset": self._offset, "row": self._row, "count": self.count}

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        while self._file < len(self._files):
            path = self._files[self._file]
            self.where = str(path)
            rows = self._parquet(path) if KINDS[path.suffix.lower()] == "parquet" else self._json_lines(path)
            for row in rows:
                self.count += 1
                yield self._row, row
            self._file, self._offset, self._row = self._file + 1, 0, 0

    def _json_lines(self, path: Path) -> Iterator[Row]:
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                while line := file.readline(MAX_LINE):
                    first = self._offset == 0
                    self._offset += len(line)
                    self._row += 1
                    if line.strip():
                        yield _json_row(line, f"{path}, line {self._row}", first)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error

    def _parquet(self, path: Path) -> Iterator[Row]:
        import pyarrow.parquet

        with parquet_errors(str(path)), pyarrow.parquet.ParquetFile(path) as file:
            groups, before = file.num_row_groups, 0
            for group in range(groups):
                size = file.metadata.row_group(group).num_rows
                if before + size > self._offset:
                    batches = file.iter_batches(batch_size=PARQUET_ROWS, row_groups=range(group, groups))
                    rows = (row for batch in batches for row in batch.to_pylist())
                    for row in islice(rows, self._offset - before, None):
                        self._offset += 1
                        self._row = self._offset
                        yield row
                    return
                before += size


def _json_row(line: bytes, where: str, first: bool) -> Row:
    if len(line) == MAX_LINE:
        raise DataError(f"{where}: the line has more than {MAX_LINE >> 20} MiB; it must hold one example.")
    try:
        text = line.decode("utf-8-sig" if first else "utf-8")
        if first and text.lstrip().startswith("["):
            raise DataError(
                f"{where}: a JSON list cannot be streamed; write one object a line (jq -c '.[]'), or set "
                "data.streaming=false."
            )
        value: object = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: the byte 0x{line[error.start]:02x} is not UTF-8; convert the file.") from error
    except ValueError as error:
        raise DataError(f"{where}: this is no JSON ({error}).") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: this is {preview(value)}; a row must be an object with columns.")
    return cast(Row, value)


class HubStream(RowStream):
    """One split of a data set of the Hugging Face Hub, or of a local folder of one, read with `datasets`."""

    def __init__(self, name: str, config: str | None, split: str) -> None:
        self._loaded, self._identity = stream_split(name, config, split)
        self._name = name

    def open(self, order: str, position: Position | None = None) -> Cursor:
        """Read the data set in its own order."""
        return _HubCursor(self._loaded, self._name, position)

    def identity(self) -> str:
        """Hash the data set's revision, or the sizes and times of a local folder's files."""
        return self._identity


class _HubCursor(Cursor):
    def __init__(self, loaded: Any, name: str, position: Position | None) -> None:
        from datasets import IterableDataset  # slow to import (over a second)

        # A copy, so that two passes do not share their state.
        self._loaded = IterableDataset(loaded._ex_iterable, loaded._info, loaded._split)
        self.where = name
        if position is not None:
            self.count = int(position["count"])
            self._loaded.load_state_dict(dict(position["state"]))

    @property
    def position(self) -> Position:
        return {"state": self._loaded.state_dict(), "count": self.count}

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        rows = iter(cast(Any, self._loaded))
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # the library raises its own, pyarrow's, fsspec's and HTTP errors
                reason = str(error).splitlines()[:1]
                raise DataError(f"{self.where}, after row {self.count}: {''.join(reason)[:200]}") from error
            self.count += 1
            yield self.count, row
