"""Locks a run's folder for one process, and clears what that process may overwrite."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from resonance.atomic_files import recover_folder, remove_leftovers
from resonance.checkpoint import STATE_FILE
from resonance.errors import ResonanceError
from resonance.hydra_config import ConfigError
from resonance.metadata import LAST_FOLDER
from train.checkpointing import read_state
from train.run_config import RunSpec, check_unused, is_rank_zero

LOCK_FILE = ".lock"


class RunError(ResonanceError):
    """A run that cannot continue, for a reason outside it."""


@contextmanager
def locked_folder(spec: RunSpec) -> Generator[None]:
    """Create and lock the run's folder; empty it if overwritten, and remove the leftovers of killed writes.

    Raises ConfigError when another process trains in it, or when a new run would overwrite something.
    """
    folder = spec.folder
    if not is_rank_zero():  # rank 0 holds the lock
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"Another process is training {folder.name!r} now; wait for it, or choose another run=NAME."
        ) from None
    try:
        if not spec.resumed:
            check_unused(folder, overwrite=spec.overwrite)
            _empty(folder)
        recover_folder(folder / LAST_FOLDER)
        remove_leftovers(folder)
        yield
    finally:
        lock.release()
        if [path.name for path in folder.iterdir()] == [LOCK_FILE]:  # the run wrote nothing
            shutil.rmtree(folder)


@contextmanager
def disk_errors(spec: RunSpec | None = None) -> Generator[None]:
    """Turn a file system error into RunError, whose message says what is kept."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        if error.errno is None:
            raise
        path = error.filename or (spec and spec.folder) or "a file"
        kept = "Nothing was trained." if spec is None else _saved_progress(spec.folder)
        raise RunError(f"{path} cannot be written or read: {error.strerror}. {kept}") from error


def _saved_progress(folder: Path) -> str:
    try:
        step = read_state(folder / STATE_FILE).step if (folder / STATE_FILE).is_file() else None
    except (ConfigError, OSError):
        step = None
    if step is None:
        return f"Of {folder.name} no step is saved; once that is put right, begin it again."
    return f"{folder.name} is kept as of step {step}; once that is put right, resume={folder.name} goes on from there."


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == LOCK_FILE:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
