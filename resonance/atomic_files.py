"""Atomic replacement of files and folders: a process killed at any moment leaves the old content or the new."""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object], mode: int | None = None) -> None:
    """Call `write` with the path of a temporary file beside `path`, then rename that file to `path`.

    The file has `mode` from its first byte on; by default, what the umask leaves of 0666.
    """
    temporary = path.with_name(f".{path.name}.{_unique_suffix()}.tmp")
    try:
        if mode is not None:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        write(temporary)
        with temporary.open("rb+") as file:
            # Some writers, safetensors among them, create files with mode 0600.
            os.fchmod(file.fileno(), 0o666 & ~_umask() if mode is None else mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Generator[Path]:
    """Yield a temporary folder to fill, which replaces `folder` at the end of the `with` block.

    The replacement takes two renames; after a kill between them, `recover_folder` restores the old folder.
    """
    new, old = folder.with_name(f".{folder.name}.{_unique_suffix()}.tmp"), _backup(folder)
    try:
        yield new
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Restore the old folder after a kill within `replace_folder`."""
    if _backup(folder).is_dir() and not folder.exists():
        _backup(folder).rename(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` whose processes have ended."""
    for path in folder.glob(".*.tmp"):
        match = re.search(r"\.(\d+)-[0-9a-f]+\.tmp$", path.name)
        if match and _is_alive(int(match[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def write_text_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write a text file as UTF-8, as `write_atomically` does."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), mode)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _unique_suffix() -> str:
    """A suffix that `remove_leftovers` reads the process id from."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _backup(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old.tmp")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
