"""A cache of search results, pages and failures in one SQLite file.

Several processes may share a file. A damaged or locked file disables the cache and never fails a search.
"""

import hashlib
import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from resonance.private_files import private_folder, private_sqlite

_log = logging.getLogger("resonance.search")

HASHED = 1  # the file version since which keys are hashed; older files have plain-text queries


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value and its age in seconds."""

    value: object
    age: float


class Cache:
    """Values by kind and key; `path=None` keeps them in memory.

    Args:
        path: the SQLite file; its folder is created.
        entries: maximum number of values; the newest are kept.
        keep: maximum age of a value, in seconds.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        entries: int = 5000,
        keep: float = math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._entries = entries
        self._keep = keep
        self._lock = threading.Lock()
        try:
            self._connection = _open(path)
        except (sqlite3.Error, OSError) as error:
            _log.warning("%s cannot be used, so results are kept in memory (%s).", path, error)
            self._connection = _open(None)
        self.prune()

    def get(self, kind: str, key: str, *, max_age: float) -> Entry | None:
        """The value stored under `key` if it is at most `max_age` seconds old, else None."""
        try:
            with self._lock:
                row = self._connection.execute(
                    "SELECT value, stored_at FROM cache WHERE kind = ? AND key = ?", (kind, _hashed(key))
                ).fetchone()
        except sqlite3.Error:
            return None
        if row is None:
            return None
        value, stored_at = cast(tuple[str, float], row)
        age = max(0.0, self._clock() - stored_at)
        return Entry(json.loads(value), age) if age <= min(max_age, self._keep) else None

    def put(self, kind: str, key: str, value: object) -> None:
        """Store a JSON value; the oldest values above the limit are deleted."""
        try:
            with self._lock:
                self._connection.execute(
                    "INSERT OR REPLACE INTO cache VALUES (?, ?, ?, ?)",
                    (kind, _hashed(key), json.dumps(value, ensure_ascii=False), self._clock()),
                )
                self._connection.execute(
                    "DELETE FROM cache WHERE stored_at < (SELECT stored_at FROM cache ORDER BY stored_at DESC "
                    "LIMIT 1 OFFSET ?)",
                    (self._entries - 1,),
                )
        except sqlite3.Error:
            return

    def prune(self) -> None:
        """Delete expired values."""
        if self._keep == math.inf:
            return
        try:
            with self._lock:
                self._connection.execute("DELETE FROM cache WHERE stored_at < ?", (self._clock() - self._keep,))
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            return

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _hashed(key: str) -> str:
    """The hash of a key; keys contain user queries, which must not be stored in plain text."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        private_folder(path.parent)
        private_sqlite(path)
    connection = sqlite3.connect(path or ":memory:", timeout=1.0, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA secure_delete=ON")  # overwrite deleted content in the file
    connection.execute(
        "CREATE TABLE IF NOT EXISTS cache (kind TEXT, key TEXT, value TEXT, stored_at REAL, "
        "PRIMARY KEY (kind, key)) WITHOUT ROWID"
    )
    if connection.execute("PRAGMA user_version").fetchone()[0] < HASHED:
        connection.execute("DELETE FROM cache")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute(f"PRAGMA user_version={HASHED}")
    connection.execute("CREATE INDEX IF NOT EXISTS cache_age ON cache (stored_at)")
    return connection
