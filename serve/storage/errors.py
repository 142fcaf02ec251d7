"""Database errors: their causes in words, by the error codes of SQLite and PostgreSQL, and a log without repetition."""

import errno
import logging
import sqlite3
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

log = logging.getLogger("resonance.serve")

FULL = "the disk that holds them is full"
LOCKED = "another process keeps the database locked"
READ_ONLY = "the database is read-only"
DAMAGED = "the database is damaged"
NOT_OPENED = "the database file cannot be opened"
NOT_PERMITTED = "the server has no permission to use the database"
MOVED = "the database file was deleted or replaced"
UNREACHABLE = "the database server does not answer"
BUSY = "all connections to the database are in use"

SQLITE = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_CANTOPEN: NOT_OPENED,
    sqlite3.SQLITE_PERM: NOT_PERMITTED,
    sqlite3.SQLITE_AUTH: NOT_PERMITTED,
}
"""By primary result code: https://www.sqlite.org/rescode.html."""

POSTGRESQL = {
    "53100": FULL,
    "55P03": LOCKED,
    "40001": LOCKED,
    "40P01": LOCKED,
    "25006": READ_ONLY,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
    "42501": NOT_PERMITTED,
    "28000": NOT_PERMITTED,
    "28P01": NOT_PERMITTED,
    "53300": BUSY,
}
"""By SQLSTATE, appendix A of PostgreSQL's manual."""

ERRNO = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: NOT_PERMITTED,
    errno.EPERM: NOT_PERMITTED,
    errno.ENOENT: NOT_OPENED,
    errno.ENOTDIR: NOT_OPENED,
}

ONLY_WRITES = frozenset((FULL, LOCKED, READ_ONLY))
"""Causes that only affect writes: a successful read does not mean that they are over."""


class StoreUnavailable(Exception):
    """The database failed; `cause` is a text that clients may read."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class SessionLost(StoreUnavailable):
    """Another process took the conversation's lock during an answer; the database itself works."""

    def __init__(self) -> None:
        super().__init__("the conversation was taken over, or its database replaced, while the answer was written")


def cause_of(error: SQLAlchemyError | OSError, disk_is_full: Callable[[], bool]) -> str:
    """The cause of an error. `disk_is_full` is called where SQLite only reports that an input or output failed."""
    if isinstance(error, PoolTimeout):
        return BUSY
    if isinstance(error, OSError):
        return ERRNO.get(error.errno or 0, UNREACHABLE)
    original = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(original, sqlite3.Error):
        return _of_sqlite(original, disk_is_full)
    state: str | None = getattr(original, "sqlstate", None)
    if state is not None and not state.startswith(("08", "57P")):
        return POSTGRESQL.get(state, f"the database failed (SQLSTATE {state})")
    return UNREACHABLE if original is not None else f"the database failed ({type(error).__name__})"


def _of_sqlite(error: sqlite3.Error, disk_is_full: Callable[[], bool]) -> str:
    # Python's own errors, of a closed connection for example, have no code.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF == sqlite3.SQLITE_IOERR and disk_is_full():
        return FULL
    name: str = getattr(error, "sqlite_errorname", type(error).__name__)
    return SQLITE.get(code & 0xFF, f"the database failed ({name})")


class FailureLog:
    """Logs a cause at its first failure and after its last; not for each failed request."""

    def __init__(self) -> None:
        self._cause: str | None = None

    def failed(self, cause: str) -> None:
        """Record a failure."""
        if cause != self._cause:
            log.error("the conversations cannot be reached: %s", cause)
            self._cause = cause

    def succeeded(self, *, wrote: bool) -> None:
        """Record a committed transaction."""
        if self._cause is not None and (wrote or self._cause not in ONLY_WRITES):
            log.warning("the conversations can be reached again")
            self._cause = None
