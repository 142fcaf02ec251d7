"""Lets one process at a time improve the checkpoints of a folder."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from resonance.improve.journal import FOLDER

PID_FILE = "pid"


class Busy(Exception):  # an answer, not a fault
    """Another process is at work."""


@contextmanager
def only_one(root: Path) -> Generator[None]:
    """Hold the lock, which the system frees when the process ends in any way. Raises Busy with the other's id."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    pid = folder / PID_FILE
    try:
        lock.acquire()
    except Timeout:
        other = pid.read_text(encoding="utf-8").strip() if pid.is_file() else "unknown"
        raise Busy(f"Another `resonance improve` is at work here, as process {other}; nothing was done.") from None
    try:
        pid.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        pid.unlink(missing_ok=True)
        lock.release()
