"""The files of a folder of documents, and how to tell whether one has changed."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resonance.retrieval.documents.passages import SUFFIXES, Unreadable

LARGEST = 50 * 1024 * 1024  # bytes; a larger file would take minutes to read and dominate the index


@dataclass(frozen=True, slots=True)
class File:
    """One file; a different `mark` means that it may have changed."""

    path: Path
    mark: str


def files_of(documents: Path) -> dict[str, File]:
    """The readable files of a folder by relative name, or the one file, in a fixed order.

    Hidden files, links out of the folder and files that vanish during the scan are left out.
    """
    found: dict[str, File] = {}
    root = documents if documents.is_dir() else documents.parent
    for path in _paths(documents):
        with contextlib.suppress(OSError):
            if path.is_file() and path.resolve().is_relative_to(documents):
                status = path.stat()
                found[_named(path.relative_to(root))] = File(path, f"{status.st_size}-{status.st_mtime_ns}")
    return found


def content_of(path: Path) -> bytes:
    """Read a whole file. Raises OSError, or Unreadable if it is too large."""
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise Unreadable(f"it is larger than {LARGEST // 2**20} MB")
    return content


def _paths(documents: Path) -> Iterator[Path]:
    if not documents.is_dir():
        yield documents
        return
    for folder, folders, names in os.walk(documents):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                yield path


def _named(path: Path) -> str:
    """A path as valid Unicode; undecodable bytes are escaped."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode("utf-8")
