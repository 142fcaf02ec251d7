"""Reads a local JSON, JSONL, CSV, TSV or Parquet file into rows; errors name the line or row.

Knows nothing of the columns' meaning; `data/formats.py` does.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, Literal, TypeAlias

from data import DataError

Row: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["json", "csv", "tsv", "parquet"]

# File kinds by suffix.
KINDS: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


def read_file(path: Path, kind: Kind, where: str) -> tuple[Sequence[Row], list[str]]:
    """Read all rows of a file in order, and the names of its columns. `where` names the file in errors.

    JSON is a list of objects, or one object per line. Text is UTF-8, with or without a byte order mark.

    Raises:
        DataError: the file is empty, is not of its kind, or has a row that cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror}).") from error
    if not raw.strip():
        raise DataError(f"{where} is empty; give data with at least one example.")
    if kind == "parquet":
        rows, columns = _parquet_rows(raw, where)
    elif kind == "json":
        rows = _json_rows(_decode(raw, where), where)
        columns = list(dict.fromkeys(column for row in rows for column in row))
    else:
        rows, columns = _csv_rows(_decode(raw, where), "\t" if kind == "tsv" else ",", where)
    if not rows:
        raise DataError(f"{where} has no rows; give data with at least one example.")
    return rows, columns


def _decode(raw: bytes, where: str) -> str:
    """Decode UTF-8. Other encodings are refused: a wrong guess would train on wrong characters."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{where} is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW.")
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise DataError(f"{where}, line {line}: there is a zero byte, as in UTF-16 or binary files; give UTF-8 text.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where}, line {line}: the byte 0x{raw[error.start]:02x} is not UTF-8; if the file is Latin-1, "
            "convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW."
        ) from error


def _json_rows(text: str, where: str) -> list[Row]:
    if text.lstrip().startswith("["):
        return _json_list(text, where)
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value: object = json.loads(line)
        except JSONDecodeError as error:
            if not rows:
                _refuse_single_value(text, where)
            raise DataError(f"{where}, line {number}: this is no JSON ({_json_reason(error, line)}).") from error
        rows.append(_json_object(value, f"{where}, line {number}"))
    return rows


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


def _csv_rows(text: str, delimiter: str, where: str) -> tuple[list[Row], list[str]]:
    """All cells stay text: 007 is no number, and NA is sodium. Missing cells are None."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    try:
        columns = list(reader.fieldnames or [])
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise DataError(
                    f"{where}, row {number} (line {reader.line_num}): there are more cells than the header's "
                    f"{len(columns)} columns; put texts that hold the separator into quotation marks."
                )
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{where}, row {len(rows) + 1}: this is no CSV ({error}).") from error
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataError(f"{where} has the column {repeated[0]!r} twice; rename or remove one.")
    return rows, columns


def _parquet_rows(raw: bytes, where: str) -> tuple[list[Row], list[str]]:
    import pyarrow.parquet
    from pyarrow import ArrowException

    if not raw.startswith(b"PAR1"):
        raise DataError(f"{where} is no Parquet file: it begins with {preview(raw[:8])} and not with b'PAR1'.")
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(raw))
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{where} is no whole Parquet file ({reason}); write or download it anew.") from error
    return table.to_pylist(), table.column_names


def preview(value: object) -> str:
    """A value for an error message, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
