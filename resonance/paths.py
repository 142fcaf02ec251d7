"""Where things lie: the project, its checkpoints, and what was downloaded; and how files are written whole."""

import os
import uuid
from collections.abc import Callable
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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
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


def write_text_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write a text file as UTF-8, whole or not at all; `mode` as for `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), mode)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
