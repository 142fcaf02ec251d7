"""SQLite's files on disk: whether they were replaced, a lock while they are created, a reserve for full disks."""

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sqlalchemy.engine import URL

from resonance.private_files import private_sqlite
from serve.storage.errors import LOCKED, StoreUnavailable

RESERVE_BYTES = 1 << 20  # freed on a full disk, so that a deletion can write its journal
MIN_FREE_BYTES = 1 << 20  # that must stay free beside a new reserve
OPENING_SECONDS = 60.0  # that a process waits for another that migrates the same database
POLL_SECONDS = 0.05

Identity = tuple[int, int] | None  # device and inode; None: no such file


class SQLiteFile:
    """The files of one database: `PATH`, its write-ahead log `PATH-wal`, and the reserve `PATH-reserve`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path.with_name(path.name + "-wal")
        self._reserve = path.with_name(path.name + "-reserve")
        self._opened: tuple[Identity, Identity] | None = None

    @classmethod
    def of(cls, url: URL) -> "SQLiteFile | None":
        """The files of a URL's database; None for a database in memory or other than SQLite."""
        name = url.database
        if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
            return None
        return cls(Path(name).absolute())

    def remember(self) -> None:
        """Remember the files that are open now. A connection must keep them open from here on."""
        self._opened = self._identities()

    def moved(self) -> bool:
        """Whether the open files were deleted, renamed or replaced: writes to them would be lost."""
        return self._opened is not None and self._identities() != self._opened

    def _identities(self) -> tuple[Identity, Identity]:
        return _identity(self.path), _identity(self._log)

    @asynccontextmanager
    async def opening(self) -> AsyncGenerator[None]:
        """Lock the folder, so that no other process creates or migrates a database in it until the block ends.

        The database's files become private to their user, whatever the umask, also where they exist already. The lock
        is on the folder itself: it needs no file, and ends with its process. Raises StoreUnavailable and OSError.
        """
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            for _ in range(int(OPENING_SECONDS / POLL_SECONDS)):
                with suppress(BlockingIOError):
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(POLL_SECONDS)
            else:
                raise StoreUnavailable(LOCKED)
            private_sqlite(self.path)
            yield
        finally:
            os.close(folder)

    def is_full(self) -> bool:
        """Whether the disk has less than 64 KiB left."""
        try:
            return shutil.disk_usage(self.path.parent).free < 1 << 16
        except OSError:
            return False

    def keep_reserve(self) -> None:
        """Create the reserve where it does not exist and the disk has space for it."""
        with suppress(OSError):
            present = self._reserve.stat().st_size if self._reserve.exists() else 0
            if present == RESERVE_BYTES or shutil.disk_usage(self.path.parent).free < RESERVE_BYTES + MIN_FREE_BYTES:
                return
            file = os.open(self._reserve, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(file, 0, RESERVE_BYTES)
            except OSError:
                self._reserve.unlink()
            finally:
                os.close(file)

    def free_reserve(self) -> None:
        """Delete the reserve."""
        self._reserve.unlink(missing_ok=True)


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
