"""Files and folders that only their user may open, whatever the umask.

An existing file is never opened here: closing it would release the locks that SQLite holds on it in this process.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")


def private_folder(path: Path) -> Path:
    """Make a folder, and those above it that are missing, with mode 0700; existing ones stay as they are."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process was faster
            folder.mkdir(mode=FOLDER)
            folder.chmod(FOLDER)  # a umask may have taken the owner's own rights
    return path


def private_file(path: Path) -> Path:
    """Make an empty file with mode 0600 where there is none, and close an existing one to others where it is ours.

    Raises OSError when it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE)
    except FileExistsError:
        with suppress(PermissionError):
            restrict(path)
    else:
        os.fchmod(descriptor, FILE)
        os.close(descriptor)
    return path


def private_sqlite(path: Path) -> Path:
    """As `private_file`, for an SQLite database: files beside it get its mode from SQLite, and existing ones here."""
    for suffix in SQLITE_SUFFIXES:
        with suppress(FileNotFoundError, PermissionError):
            restrict(path.with_name(path.name + suffix))
    return private_file(path)


def restrict(path: Path) -> int | None:
    """Take others' rights to a file or folder away; return the mode that it had, or None when there were none.

    Raises OSError: FileNotFoundError, or PermissionError for what belongs to another user.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return None
    path.chmod(mode & 0o700)
    return mode
