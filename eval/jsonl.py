"""JSONL files of test items, read strictly: a malformed line is an error that names it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eval import EvalError

_SHOWN_CHARS = 60  # of a bad value in an error


class BadFile(EvalError):
    """A file of test items that is missing or malformed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One object of a JSONL file, and where it stands."""

    path: Path
    number: int  # from 1
    fields: Mapping[str, object]

    def error(self, what: str) -> BadFile:
        """An error that names the file and the line."""
        return BadFile(f"{self.path}, line {self.number}: {what}")

    def first_of(self, *names: str) -> str | None:
        """The name of the first of these fields that the line has."""
        return next((name for name in names if self.fields.get(name) is not None), None)

    def text(self, name: str) -> str:
        """A field that must be a non-empty text. Raises BadFile."""
        value = self.fields.get(name)
        if value is None:
            raise self.error(f"the field {name!r} is missing; it has {self._names()}.")
        if not isinstance(value, str):
            raise self.error(f"the field {name!r} is {_shown(value)}; it must be a text.")
        if not value.strip():
            raise self.error(f"the field {name!r} is empty; give a text or remove the line.")
        return self.checked(value, name)

    def checked(self, value: str, name: str) -> str:
        """The text, if UTF-8 can represent it. Raises BadFile."""
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(f"the field {name!r} holds half a character (a lone surrogate); mend the text.") from None
        return value

    def _names(self) -> str:
        return ", ".join(map(repr, self.fields)) or "no fields"


def read_jsonl(path: str | Path) -> list[Line]:
    """Read all objects of a JSONL file; blank lines are skipped.

    Raises BadFile when the file cannot be read, has no objects, or a line is not a JSON object.
    """
    path = Path(path).expanduser()
    lines = [_parse(path, i, line) for i, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise BadFile(f"{path} has no lines; give a file with one JSON object per line.")
    return lines


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file, with universal newlines. Raises BadFile when it cannot be read."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise BadFile(f"{path} is a folder; give the path of a file in it.")
    if not path.is_file():
        raise BadFile(f"There is no file {path}; give the path of an existing one.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BadFile(f"{path}, line {line}: the bytes are not UTF-8; convert the file to UTF-8.") from None
    except OSError as error:
        raise BadFile(f"{path} cannot be read ({error.strerror}).") from error


def _parse(path: Path, number: int, line: str) -> Line:
    where = f"{path}, line {number}"
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadFile(f"{where}: {error.msg} at column {error.colno}; each line must be one JSON object.") from None
    except RecursionError:
        raise BadFile(f"{where}: the JSON is nested too deeply; each line must be one JSON object.") from None
    if not isinstance(value, dict):
        raise BadFile(f"{where}: {_shown(value)} is not a JSON object; each line must be one.")
    return Line(path, number, value)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
