"""One process at a time trains in a run's folder, and finds there only what it may overwrite."""

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
from train.checkpointing import saved_step
from train.resolve import Plan, check_free, is_leader

LOCK_FILE = ".lock"


class RunError(ResonanceError):
    """A run that cannot go on, for a reason outside it."""


@contextmanager
def claimed(plan: Plan) -> Generator[None]:
    """Hold the run's folder: made where it is new, emptied where it is overwritten, without what killed writes left.

    Raises ConfigError when another process trains in it, or when a new run would overwrite something.
    """
    folder = plan.folder
    if not is_leader():  # its leader does
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
        if not plan.resumed:
            check_free(folder, overwrite=plan.overwrite)
            _empty(folder)
        recover_folder(folder / LAST_FOLDER)
        remove_leftovers(folder)
        yield
    finally:
        lock.release()
        if [path.name for path in folder.iterdir()] == [LOCK_FILE]:  # nothing came of it
            shutil.rmtree(folder)


@contextmanager
def disk_errors(plan: Plan | None = None) -> Generator[None]:
    """Turn an error of the file system into RunError: a sentence that says what it was and what is kept."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        if error.errno is None:
            raise
        where = error.filename or (plan and plan.folder) or "a file"
        kept = "Nothing was trained." if plan is None else _kept(plan.folder)
        raise RunError(f"{where} cannot be written or read: {error.strerror}. {kept}") from error


def _kept(folder: Path) -> str:
    try:
        step = saved_step(folder / STATE_FILE) if (folder / STATE_FILE).is_file() else None
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
