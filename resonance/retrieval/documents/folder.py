"""A folder of documents as it is on disk: which files there are, what they look like from outside, what is in them."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resonance.retrieval.documents.passages import SUFFIXES, Unreadable

# Files beyond this are left out: reading them would take minutes and their words drown the others.
LARGEST = 50 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """One file; another `mark` than before means that it may have changed."""

    path: Path
    mark: str


def files_of(documents: Path) -> dict[str, File]:
    """The readable files of a folder by their names in it, or the one file, in a fixed order.

    Hidden ones, links out of the folder and what vanishes while the folder is looked over are left out.
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
    """A whole file. Raises OSError, or Unreadable for one that is too large."""
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
    """A path as text that can be stored and sent: bytes that are no text are written out."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode("utf-8")
