"""Files and folders that only their owner may open, independent of the umask.

No function opens an existing file: closing it would release the locks that SQLite holds on it in this process.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")


def private_folder(path: Path) -> Path:
    """Create a folder and its missing parents with mode 0700; existing ones keep theirs."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process created it
            folder.mkdir(mode=FOLDER)
            folder.chmod(FOLDER)  # the umask may have removed rights of the owner
    return path


def private_file(path: Path) -> Path:
    """Create an empty file with mode 0600, or remove other users' rights to an existing file of ours.

    Raises OSError when it cannot be created.
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
    """As `private_file`, for an SQLite database and its side files; SQLite gives new ones its mode."""
    for suffix in SQLITE_SUFFIXES:
        with suppress(FileNotFoundError, PermissionError):
            restrict(path.with_name(path.name + suffix))
    return private_file(path)


def restrict(path: Path) -> int | None:
    """Remove other users' rights to a file or folder; returns its previous mode, or None if there were no such rights.

    Raises FileNotFoundError, and PermissionError for a file of another user.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return None
    path.chmod(mode & 0o700)
    return mode
