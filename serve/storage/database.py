"""The connection to any database that SQLAlchemy speaks to without blocking: opened, used in transactions, closed.

It knows nothing of what is kept.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from resonance.errors import ResonanceError
from serve.storage.migrations import upgrade

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
BUSY_SECONDS = 5.0  # how long SQLite waits for another process's lock


class StoreError(ResonanceError):
    """A `store.url` that cannot be used."""


class StoreUnavailable(Exception):
    """The database does not answer as it should: locked, full, broken or gone."""


class Database:
    """A database whose tables are in their present form once it is open; `open` it in the process that uses it."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StoreError(
                "store.url is not a database's URL; write sqlite:///PATH or postgresql://HOST/NAME."
            ) from error
        self.url = parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))
        self._engine: AsyncEngine | None = None

    async def open(self) -> None:
        """Connect, and bring the tables to the present form. Raises StoreUnavailable."""
        engine = _engine(self.url)
        try:
            with _translated():
                async with engine.begin() as connection:
                    await connection.run_sync(upgrade)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def close(self) -> None:
        """Give the connections back."""
        if self._engine is not None:
            await self._engine.dispose()

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncSession]:
        """A transaction, which is committed at its end. Raises StoreUnavailable for whatever a database can raise."""
        with _translated():
            if self._engine is None:
                await self.open()
            async with self._sessions() as session, session.begin():
                yield session


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True)
    engine = create_async_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
        # SQLite's own knows ASCII only, and searches compare in lower case.
        connection.create_function("lower", 1, _lower, deterministic=True)

    return engine


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


@contextmanager
def _translated() -> Generator[None]:
    """Turn whatever a database can raise into StoreUnavailable."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailable(type(error).__name__) from error
