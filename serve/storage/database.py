"""The connection to an SQLAlchemy database with an async driver: open, transactions, close.

This module knows nothing of the tables' contents.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from resonance.errors import ResonanceError
from resonance.paths import home
from serve.storage.errors import FULL, MOVED, FailureLog, SessionLost, StoreUnavailable, cause_of
from serve.storage.migrations import upgrade
from serve.storage.sqlite_file import SQLiteFile

log = logging.getLogger("resonance.serve")

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
BUSY_SECONDS = 5.0  # that SQLite waits for another process's lock
CONFLICT_ATTEMPTS = 3
MIGRATION_LOCK = 7_265_736  # PostgreSQL's advisory lock during migrations

Result = TypeVar("Result")


def default_url() -> str:
    """The default database: SQLite in RESONANCE_HOME."""
    return f"sqlite+aiosqlite:///{home() / 'conversations.sqlite'}"


class StoreError(ResonanceError):
    """`store.url` is invalid."""


class Database:
    """A database, migrated when it is opened; open it in the process that uses it."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StoreError(
                "store.url is not a database's URL; write sqlite:///PATH or postgresql://HOST/NAME."
            ) from error
        self.url = parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))
        self._file = SQLiteFile.of(self.url)
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()  # Alembic has one context for the whole process
        self._deleting_on_full_disk = asyncio.Lock()
        self._failures = FailureLog()

    async def open(self) -> None:
        """Connect and run the migrations. Raises StoreUnavailable."""
        await self._ready()

    async def close(self) -> None:
        """Close the connections."""
        async with self._opening:
            await self._close()

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncSession]:
        """A transaction that may write, committed at its end. Raises StoreUnavailable for every database error."""
        async with self._transaction(reading=False) as session:
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncSession]:
        """A read-only transaction; on SQLite it does not wait for writers. Raises StoreUnavailable."""
        async with self._transaction(reading=True) as session:
            yield session

    async def deleting(self, work: Callable[[AsyncSession], Awaitable[Result]]) -> Result:
        """Run a transaction that deletes. On a full disk, free the reserve and retry. Raises StoreUnavailable."""
        try:
            async with self.session() as session:
                return await work(session)
        except StoreUnavailable as error:
            if self._file is None or error.cause != FULL:
                raise
        async with self._deleting_on_full_disk:
            await asyncio.to_thread(self._file.free_reserve)
            await self._shrink()
            try:
                async with self.session() as session:
                    return await work(session)
            finally:
                await self._shrink()
                await asyncio.to_thread(self._file.keep_reserve)

    @asynccontextmanager
    async def _transaction(self, *, reading: bool) -> AsyncGenerator[AsyncSession]:
        await self._ready()
        with self._translated():
            async with (self._readers if reading else self._writers)() as session, session.begin():
                yield session
            if self._file is not None and self._file.moved():  # during the transaction
                raise StoreUnavailable(MOVED)
        self._failures.succeeded(wrote=not reading)

    async def _ready(self) -> None:
        """Open the database where it is closed, and reopen it where its file was replaced."""
        if self._engine is not None and (self._file is None or not self._file.moved()):
            return
        async with self._opening:
            if self._engine is not None:
                if self._file is None or not self._file.moved():
                    return
                log.error("%s while the server ran; it is opened anew", MOVED)
                await self._shrink()  # writes a renamed file's log into that file
                await self._close()
            with self._translated():
                await self._open()

    async def _open(self) -> None:
        engine = _engine(self.url)
        async with AsyncExitStack() as failing, nullcontext() if self._file is None else self._file.opening():
            failing.push_async_callback(engine.dispose)
            first = await failing.enter_async_context(engine.connect())
            async with first.begin():
                if engine.dialect.name == "postgresql":
                    await first.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                await first.run_sync(upgrade)
            if self._file is None:
                await first.close()
            else:
                self._file.remember()
                await asyncio.to_thread(self._file.keep_reserve)
            failing.pop_all()
        self._first = first  # stays open, so that SQLite keeps the remembered log file
        self._writers = async_sessionmaker(engine, expire_on_commit=False)
        self._readers = async_sessionmaker(engine.execution_options(reading=True), expire_on_commit=False)
        self._engine = engine

    async def _close(self) -> None:
        if self._engine is None:
            return
        with suppress(SQLAlchemyError, OSError):
            await self._first.close()
        await self._engine.dispose()
        self._engine = None

    async def _shrink(self) -> None:
        """Checkpoint SQLite's log into its file, and free unused space of both, as far as possible."""
        with suppress(SQLAlchemyError, OSError):
            raw = await self._first.get_raw_connection()
            driver: Any = raw.driver_connection
            for pragma in ("wal_checkpoint(TRUNCATE)", "incremental_vacuum", "wal_checkpoint(TRUNCATE)"):
                with suppress(sqlite3.Error):
                    await driver.execute_fetchall(f"PRAGMA {pragma}")

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Turn every database error into StoreUnavailable, and log its cause."""
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            cause = cause_of(error, self._is_full)
            self._failures.failed(cause)
            raise StoreUnavailable(cause) from error
        except StoreUnavailable as error:
            if not isinstance(error, SessionLost):
                self._failures.failed(error.cause)
            raise

    def _is_full(self) -> bool:
        return self._file is not None and self._file.is_full()


async def retry_conflicts(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run a transaction, and run it again where another process has added the same id in the meantime."""
    for _ in range(CONFLICT_ATTEMPTS - 1):
        try:
            return await work()
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
    return await work()


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True)
    # Python's sqlite3 does not begin a transaction before every statement, CREATE TABLE for one; SQLAlchemy does.
    engine = create_async_engine(url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _(connection: Connection) -> None:
        # A transaction that reads before it writes fails at once when another process has written in between, unless
        # it has the write lock from its start.
        reading = connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
