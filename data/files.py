"""Reads the rows of a local JSON, JSONL, CSV, TSV or Parquet file one at a time; errors name the line or row.

Knows nothing of the columns' meaning; `data/formats.py` does.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, TypeAlias

from data import DataError

Row: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["json", "csv", "tsv", "parquet"]

PARQUET_ROWS = 1000  # that are in memory at a time

# File kinds by suffix.
KINDS: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a data set, read anew at each iteration, and the names of its columns."""

    columns: list[str]
    rows: Iterable[Row]


def read_file(path: Path, kind: Kind, where: str) -> Table:
    """Read a file's columns; its rows are read one at a time when they are iterated. `where` names it in errors.

    JSON is a list of objects, or one object per line; a list is read whole. Text is UTF-8, with or without a byte order
    mark.

    Raises:
        DataError: the file is empty, is not of its kind, or has a row that cannot be read. CSV and Parquet files raise
            it for a row when the row is iterated.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start.isspace() or not start:
                start = _after_spaces(file)
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror}).") from error
    if not start:
        raise DataError(f"{where} is empty; give data with at least one example.")
    if kind == "parquet":
        table = _parquet_table(path, where)
    elif kind == "json":
        table = _json_table(path, where)
    else:
        table = _csv_table(path, "\t" if kind == "tsv" else ",", where)
    if next(iter(table.rows), None) is None:
        raise DataError(f"{where} has no rows; give data with at least one example.")
    return table


def _after_spaces(file: BinaryIO) -> bytes:
    """Read on until there is something other than white space; return it, or nothing at the file's end."""
    while (chunk := file.read(1 << 16)).isspace():
        pass
    return chunk.lstrip()


@contextmanager
def _open_text(path: Path, newline: str, where: str) -> Generator[TextIO]:
    """Open UTF-8 text. Other encodings are refused: a wrong guess would train on wrong characters."""
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{where} is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW.")
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as text:
            yield text
    except UnicodeDecodeError as error:
        line, byte = _undecodable(path)
        raise DataError(
            f"{where}, line {line}: the byte 0x{byte:02x} is not UTF-8; if the file is Latin-1, "
            "convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW."
        ) from error


def _undecodable(path: Path) -> tuple[int, int]:
    """Find the first byte that is not UTF-8; return its line, from 1, and the byte."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return number, line[error.start]
    raise AssertionError("all lines are UTF-8")


def _refuse_zero_byte(line: str, number: int, where: str) -> None:
    if "\0" in line:
        raise DataError(f"{where}, line {number}: there is a zero byte, as in UTF-16 or binary files; give UTF-8 text.")


def _json_table(path: Path, where: str) -> Table:
    with _open_text(path, "\n", where) as text:
        is_list = next((line.lstrip()[0] for line in text if line.strip()), "") == "["
    if is_list:
        with _open_text(path, "\n", where) as text:
            whole = text.read()
        if "\0" in whole:
            _refuse_zero_byte("\0", whole.count("\n", 0, whole.index("\0")) + 1, where)
        rows: Iterable[Row] = _json_list(whole, where)
    else:
        rows = _JsonLines(path, where)
    return Table(list(dict.fromkeys(column for row in rows for column in row)), rows)


@dataclass(frozen=True, slots=True)
class _JsonLines:
    path: Path
    where: str

    def __iter__(self) -> Iterator[Row]:
        rows = 0
        with _open_text(self.path, "\n", self.where) as text:
            for number, line in enumerate(text, start=1):
                if not line.strip():
                    continue
                _refuse_zero_byte(line, number, self.where)
                try:
                    value: object = json.loads(line)
                except JSONDecodeError as error:
                    if not rows:
                        _refuse_single_value(self.path.read_text(encoding="utf-8-sig"), self.where)
                    reason = _json_reason(error, line)
                    raise DataError(f"{self.where}, line {number}: this is no JSON ({reason}).") from error
                rows += 1
                yield _json_object(value, f"{self.where}, line {number}")


def _json_list(text: str, where: str) -> list[Row]:
    try:
        values: list[object] = json.loads(text)
    except JSONDecodeError as error:
        row = _complete_items(text) + 1
        raise DataError(
            f"{where}, row {row} (line {error.lineno}): this is no JSON ({_json_reason(error, text)})."
        ) from error
    return [_json_object(value, f"{where}, row {number}") for number, value in enumerate(values, start=1)]


def _json_object(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{where}: this is {preview(value)}; a row must be an object with columns.")
    return value


def _refuse_single_value(text: str, where: str) -> None:
    """Raise DataError when the text is a single JSON value other than a list."""
    try:
        value: object = json.loads(text)
    except JSONDecodeError:
        return
    what = f"one object with the keys {', '.join(map(repr, value))}" if isinstance(value, dict) else preview(value)
    raise DataError(f"{where} holds {what}; wanted is a list of rows, or one row a line.")


def _complete_items(text: str) -> int:
    """The number of complete items in a truncated JSON list."""
    decoder, comma, count = JSONDecoder(), re.compile(r"\s*,\s*"), 0
    separator: re.Match[str] | None = re.compile(r"\s*\[\s*").match(text)
    try:
        while separator is not None:
            _, end = decoder.raw_decode(text, separator.end())
            count += 1
            separator = comma.match(text, end)
    except JSONDecodeError:
        pass
    return count


def _json_reason(error: JSONDecodeError, text: str) -> str:
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "it ends in the middle of a row"
    return f"{error.msg} at column {error.colno}"


def _csv_table(path: Path, delimiter: str, where: str) -> Table:
    csv.field_size_limit(sys.maxsize)
    with _open_text(path, "", where) as text:
        try:
            columns = next(csv.reader(_without_zero_bytes(text, where), delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise DataError(f"{where}, row 1: this is no CSV ({error}).") from error
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataError(f"{where} has the column {repeated[0]!r} twice; rename or remove one.")
    return Table(columns, _CsvRows(path, delimiter, where))


@dataclass(frozen=True, slots=True)
class _CsvRows:
    """All cells stay text: 007 is no number, and NA is sodium. Missing cells are None."""

    path: Path
    delimiter: str
    where: str

    def __iter__(self) -> Iterator[Row]:
        rows = 0
        with _open_text(self.path, "", self.where) as text:
            reader = csv.DictReader(_without_zero_bytes(text, self.where), delimiter=self.delimiter, strict=True)
            try:
                for row in reader:
                    rows += 1
                    if None in row:
                        raise DataError(
                            f"{self.where}, row {rows} (line {reader.line_num}): there are more cells than the "
                            f"header's {len(reader.fieldnames or ())} columns; put texts that hold the separator into "
                            "quotation marks."
                        )
                    yield row
            except csv.Error as error:
                raise DataError(f"{self.where}, row {rows + 1}: this is no CSV ({error}).") from error


def _without_zero_bytes(text: TextIO, where: str) -> Iterator[str]:
    for number, line in enumerate(text, start=1):
        _refuse_zero_byte(line, number, where)
        yield line


def _parquet_table(path: Path, where: str) -> Table:
    import pyarrow.parquet

    with path.open("rb") as file:
        start = file.read(8)
    if not start.startswith(b"PAR1"):
        raise DataError(f"{where} is no Parquet file: it begins with {preview(start)} and not with b'PAR1'.")
    with parquet_errors(where), pyarrow.parquet.ParquetFile(path) as file:
        return Table(file.schema_arrow.names, _ParquetRows(path, where))


@dataclass(frozen=True, slots=True)
class _ParquetRows:
    path: Path
    where: str

    def __iter__(self) -> Iterator[Row]:
        import pyarrow.parquet

        with parquet_errors(self.where), pyarrow.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                yield from batch.to_pylist()


@contextmanager
def parquet_errors(where: str) -> Generator[None]:
    """Turn the errors of reading a Parquet file into DataError."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{where} is no whole Parquet file ({reason}); write or download it anew.") from error


def preview(value: object) -> str:
    """A value for an error message, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
