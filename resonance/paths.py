"""Where things lie: the project, its checkpoints, and what was downloaded; and how files are written whole."""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = PROJECT_ROOT / "checkpoints"


def home() -> Path:
    """The folder of downloads and caches: `RESONANCE_HOME`, else `~/.cache/resonance`."""
    return Path(os.environ.get("RESONANCE_HOME") or Path.home() / ".cache" / "resonance").expanduser()


def write_atomically(path: Path, write: Callable[[Path], object], mode: int | None = None) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: a kill leaves the old file or the new one.

    The file has `mode` from its first byte on; without one, what the umask leaves of 0666.
    """
    temporary = path.with_name(f".{path.name}.{_mark()}.tmp")
    try:
        if mode is not None:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        write(temporary)
        with temporary.open("rb+") as file:
            # Some writers keep their files to themselves.
            os.fchmod(file.fileno(), 0o666 & ~_umask() if mode is None else mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Generator[Path]:
    """A new folder to fill, which then takes `folder`'s place: a kill leaves the old one or the new one.

    Between the two renames that this takes there is neither; `recover_folder` then puts the old one back.
    """
    new, old = folder.with_name(f".{folder.name}.{_mark()}.tmp"), _set_aside(folder)
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
    """Put back what a process that was killed within `replace_folder` had set aside."""
    if _set_aside(folder).is_dir() and not folder.exists():
        _set_aside(folder).rename(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` that processes no longer there have begun to write."""
    for path in folder.glob(".*.tmp"):
        match = re.search(r"\.(\d+)-[0-9a-f]+\.tmp$", path.name)
        if match and _is_alive(int(match[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Another name for a file where the file system has such, else a copy of it."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def write_text_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write a text file as UTF-8, whole or not at all; `mode` as for `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), mode)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _mark() -> str:
    """Tells temporary files apart, and whose they are."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _set_aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old.tmp")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
