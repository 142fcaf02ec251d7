"""Records on disk: `eval/<task>.jsonl` beside `eval.json`, one line per item."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from eval import EvalError
from eval.tasks.base import Record
from resonance.atomic_files import write_text_atomically

RECORDS_FOLDER = "eval"


def records_path(folder: Path, task: str) -> Path:
    """The records of a task in a checkpoint's folder."""
    return folder / RECORDS_FOLDER / f"{task}.jsonl"


def to_line(record: Record) -> str:
    """A record as one line of JSON, with its line break; fields at their defaults are left out."""
    kept = {name: value for name, value in asdict(record).items() if value not in (None, "", {})}
    line = {"item": record.item, "observations": dict(record.observations), **kept}
    return json.dumps(line, ensure_ascii=False, allow_nan=True) + "\n"


def from_line(line: str) -> Record:
    """Parse one line. Raises ValueError, TypeError, AttributeError or LookupError for anything but a record."""
    values: dict[str, Any] = json.loads(line)
    known: dict[str, Any] = {field.name: values[field.name] for field in fields(Record) if field.name in values}
    known["observations"] = {
        str(name): (float(pair[0]), float(pair[1])) for name, pair in values["observations"].items()
    }
    return Record(**known)


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write all records atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, "".join(map(to_line, records)))


def read_records(path: Path) -> list[Record]:
    """Read all records. Raises EvalError when the file is missing or names the first bad line."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # splitlines would split at U+2028 too
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{path} cannot be read ({error}); evaluate again.") from error
    records: list[Record] = []
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            records.append(from_line(line))
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise EvalError(f"Line {number} of {path} is no record ({error}); evaluate again.") from error
    return records


def records_sha256(path: Path) -> str:
    """SHA-256 of a records file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
