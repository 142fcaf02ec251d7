"""What was found before, in one SQLite file: results, pages and failures, each with its age.

Knows times and JSON, not what the values mean. Several processes may share a file; a broken or locked
file costs the cache, never the answer.
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

HASHED = 1  # the file's version from which on keys are hashes; older files had queries in plain text


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value and its age in seconds."""

    value: object
    age: float


class Cache:
    """Values by kind and key; `path=None` keeps them in memory.

    Args:
        path: the SQLite file; its folder is made.
        entries: how many newest values are kept.
        keep: for how many seconds a value is kept at most.
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
            self._connection = _opened(path)
        except (sqlite3.Error, OSError) as error:
            _log.warning("%s cannot be used, so results are kept in memory (%s).", path, error)
            self._connection = _opened(None)
        self.prune()

    def get(self, kind: str, key: str, *, max_age: float) -> Entry | None:
        """The value stored under `key` when it is at most `max_age` seconds old, else None."""
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
        """Store a JSON value, now; the oldest values beyond the limit go."""
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
        """Delete what is too old to be kept."""
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
    """A key holds a reader's words; the file does not."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _opened(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        private_folder(path.parent)
        private_sqlite(path)
    connection = sqlite3.connect(path or ":memory:", timeout=1.0, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted is gone from the file as well
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
