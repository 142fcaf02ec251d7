"""A BM25 index of a folder of documents, kept on disk and updated with the folder.

`passages.sqlite` holds the passages of every file and the file's size and modification time; an update reads only new
and changed files. The bm25s index is built from it into a new folder, which replaces the old one when it is complete.
Several processes may share an index.
"""

import hashlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import bm25s
import numpy as np
from numpy.typing import NDArray

from resonance.private_files import private_folder, private_sqlite, restrict
from resonance.retrieval.documents.folder import File, content_of, files_of
from resonance.retrieval.documents.passages import SUFFIXES, Unreadable, read_passages
from resonance.retrieval.language_detection import document_language
from resonance.retrieval.ranking import bm25_index, bm25_scores
from resonance.retrieval.sanitize import visible
from resonance.retrieval.text import terms
from resonance.retrieval.types import SearchError

# The version of the stored format; an index of another version is rebuilt.
FORMAT = "3"
MAX_WARNINGS = 20  # unreadable files that warnings list
LOCK_TIMEOUT = 300.0  # seconds to wait for another process's update

_PASSAGES = """
CREATE TABLE IF NOT EXISTS passages (
    id INTEGER PRIMARY KEY, file TEXT, title TEXT, text TEXT, terms TEXT, language TEXT
);
"""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, mark TEXT, digest TEXT);
{_PASSAGES}
CREATE INDEX IF NOT EXISTS passages_file ON passages (file);
CREATE TABLE IF NOT EXISTS unreadable (file TEXT PRIMARY KEY, sentence TEXT);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
"""


@dataclass(frozen=True, slots=True)
class IndexHit:
    """One passage of a document; `path` is relative to the indexed folder."""

    title: str
    path: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Update:
    """The result of an update; `skipped` has one sentence for each unreadable file, from earlier updates too."""

    added: int
    changed: int
    removed: int
    files: int
    passages: int
    skipped: tuple[str, ...]
    seconds: float

    def warnings(self, documents: Path) -> tuple[str, ...]:
        """Warnings for the user, one sentence each."""
        if self.files == 0:
            kinds = ", ".join(sorted(SUFFIXES))
            return (f"{documents} holds no documents ({kinds}), so a search finds nothing until there are some.",)
        more = len(self.skipped) - MAX_WARNINGS
        return self.skipped if more < 1 else (*self.skipped[:MAX_WARNINGS], f"{more} more files are left out.")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A generation in memory: the index (None if no passage has a term), the passages' rows and languages."""

    generation: int
    bm25: bm25s.BM25 | None
    rows: NDArray[np.int64]
    languages: tuple[str, ...]


class Index:
    """The index of `documents` (a folder or one file) in `folder`.

    Raises SearchError if the documents do not exist.
    """

    def __init__(self, documents: Path, folder: Path) -> None:
        if not documents.exists():
            raise SearchError(f"{documents} does not exist; give a folder of documents, or one file")
        self.documents = documents.resolve()
        self.folder = folder / hashlib.sha256(str(self.documents).encode()).hexdigest()[:16]
        try:
            restrict(private_folder(self.folder))
        except OSError as error:
            raise SearchError(
                f"{folder} cannot hold an index ({error.strerror}); choose another index folder"
            ) from error
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    def update(self) -> Update:
        """Index new and changed files and remove deleted ones.

        A damaged index is rebuilt. Raises SearchError if the index cannot be written.
        """
        try:
            try:
                return self._updated()
            except sqlite3.OperationalError:  # locked, or the disk is full
                raise
            except sqlite3.DatabaseError:
                shutil.rmtree(self.folder)
                private_folder(self.folder)
                return self._updated()
        except (sqlite3.OperationalError, OSError) as error:
            raise SearchError(f"the index in {self.folder} cannot be written: {error}") from error

    def _updated(self) -> Update:
        started = time.perf_counter()
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")  # one process updates; the others wait and then have nothing to do
            stored = self._stored(database)
            there = files_of(self.documents)
            gone = [name for name in stored if name not in there]
            added = changed = 0
            for name, file in there.items():
                if stored.get(name, ("", ""))[0] == file.mark:
                    continue
                if self._read(database, name, file, stored.get(name)):
                    changed += name in stored
                    added += name not in stored
            for name in gone:
                database.execute("DELETE FROM passages WHERE file = ?", (name,))
                database.execute("DELETE FROM unreadable WHERE file = ?", (name,))
                database.execute("DELETE FROM files WHERE name = ?", (name,))
            if added or changed or gone or self._current(database) == 0:
                self._build(database)
            passages = int(database.execute("SELECT count(*) FROM passages").fetchone()[0])
            rows = database.execute("SELECT sentence FROM unreadable ORDER BY file").fetchall()
            skipped = tuple(str(sentence) for (sentence,) in rows)
            database.execute("COMMIT")
        self._remove_old()
        return Update(added, changed, len(gone), len(there), passages, skipped, time.perf_counter() - started)

    def search(self, query: str, k: int) -> list[IndexHit]:
        """The `k` best passages, best first; only those that share a term with the query."""
        with self._open() as database:
            database.execute("BEGIN")  # one view of the passages and of the generation that belongs to them
            loaded = self._load(database)
            if loaded is None or loaded.bm25 is None:
                return []
            scores = bm25_scores(loaded.bm25, query, loaded.languages)
            if scores is None:
                return []
            best = np.argsort(-scores, kind="stable")[:k]
            found: list[IndexHit] = []
            for position in best:
                if scores[position] <= 0:
                    break
                row = database.execute(
                    "SELECT title, file, text FROM passages WHERE id = ?", (int(loaded.rows[int(position)]),)
                ).fetchone()
                if row is not None:
                    title, file, text = cast(tuple[str, str, str], row)
                    found.append(IndexHit(title, file, text, float(scores[position])))
            return found

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        """Open a connection; uncommitted changes are rolled back when it closes."""
        path = private_sqlite(self.folder / "passages.sqlite")
        database = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None)
        try:
            _enable_wal(database)
            database.executescript(_TABLES)
            yield database
        finally:
            database.close()

    def _stored(self, database: sqlite3.Connection) -> dict[str, tuple[str, str]]:
        """(mark, digest) by file name; clears an index of another format."""
        row = database.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        if row is None or row[0] != FORMAT:
            for table in ("files", "unreadable"):
                database.execute(f"DELETE FROM {table}")
            database.execute("DROP TABLE passages")  # its columns are those of the other format
            database.execute(_PASSAGES)
            database.execute("INSERT OR REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))
        rows = database.execute("SELECT name, mark, digest FROM files").fetchall()
        return {name: (mark, digest) for name, mark, digest in rows}

    def _read(self, database: sqlite3.Connection, name: str, file: File, stored: tuple[str, str] | None) -> bool:
        """Store a file's passages; False if its content is unchanged or unreadable."""
        sentence, digest, same, passages = None, "", False, []
        try:
            content = content_of(file.path)
            digest = hashlib.sha256(content).hexdigest()
            same = stored is not None and stored[1] == digest
            passages = [] if same else read_passages(file.path, content)
        except FileNotFoundError:  # the next update removes it
            return False
        except (Unreadable, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            sentence, digest = f"{visible(name)} is left out: {why}", ""
        database.execute("DELETE FROM unreadable WHERE file = ?", (name,))
        if sentence is not None:
            database.execute("INSERT INTO unreadable VALUES (?, ?)", (name, sentence))
        database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (name, file.mark, digest))
        if same:
            return False
        database.execute("DELETE FROM passages WHERE file = ?", (name,))
        database.executemany(
            "INSERT INTO passages (file, title, text, terms, language) VALUES (?, ?, ?, ?, ?)",
            (
                # The title's terms count for every passage of the document.
                (name, title, text, " ".join(terms(f"{title} {text}", language)), language)
                for title, text, language in (
                    (passage.title, passage.text, document_language(passage.text)) for passage in passages
                )
            ),
        )
        was_there = stored is not None and bool(stored[1])
        return bool(digest) or was_there

    def _build(self, database: sqlite3.Connection) -> None:
        """Build the bm25s index of all passages in a new folder, which becomes the current one on commit."""
        generation = self._current(database) + 1
        rows: list[int] = []
        corpus: list[list[str]] = []
        interned: dict[str, str] = {}  # interned: terms repeat often
        for identity, text in database.execute("SELECT id, terms FROM passages ORDER BY id"):
            rows.append(identity)
            corpus.append([interned.setdefault(word, word) for word in text.split()])
        final = self.folder / f"bm25-{generation}"
        making = self.folder / f"making-{os.getpid()}-{generation}"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        if any(corpus):
            bm25_index(corpus).save(making, show_progress=False)
        np.save(making / "rows.npy", np.array(rows, dtype=np.int64))
        shutil.rmtree(final, ignore_errors=True)  # left by a process that was killed before its commit
        making.rename(final)
        database.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (str(generation),))

    def _current(self, database: sqlite3.Connection) -> int:
        row = database.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
        return int(row[0]) if row is not None else 0

    def _load(self, database: sqlite3.Connection) -> _Loaded | None:
        """The current generation, from memory if unchanged; None before the first update."""
        generation = self._current(database)
        with self._lock:
            if self._loaded is None or self._loaded.generation != generation:
                folder = self.folder / f"bm25-{generation}"
                if not folder.is_dir():
                    return None
                has_words = (folder / "vocab.index.json").exists()
                index = bm25s.BM25.load(folder, mmap=True, show_progress=False) if has_words else None
                rows = database.execute("SELECT DISTINCT language FROM passages ORDER BY language").fetchall()
                languages = tuple(str(language) for (language,) in rows)
                self._loaded = _Loaded(generation, index, np.load(folder / "rows.npy"), languages)
            return self._loaded

    def _remove_old(self) -> None:
        """Delete old generations, except the previous one, which a search may be opening."""
        with self._open() as database:
            current = self._current(database)
        for folder in self.folder.glob("bm25-*"):
            if int(folder.name.removeprefix("bm25-")) < current - 1:
                shutil.rmtree(folder, ignore_errors=True)


def _enable_wal(database: sqlite3.Connection) -> None:
    """Enable write-ahead logging. On a new file SQLite refuses all but one of concurrent attempts, so retry."""
    end = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)
