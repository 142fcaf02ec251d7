"""Locks of conversations: one answer at a time in each, in this process and across all servers on one database.

Within a process, a set of conversations suffices. Between processes, a lock is a row with the process that holds it
and its expiry, which is renewed while its answer runs. A lock is free when its process has ended or has not renewed it.
The clocks of servers on one database may differ by a few seconds.
"""

import asyncio
import hashlib
import os
import platform
import secrets
import time
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage.database import Database
from serve.storage.errors import SessionLost, StoreUnavailable
from serve.storage.tables import SessionLockRow

LEASE_SECONDS = 30.0
RENEW_EVERY = 10.0
OUTDATED_SECONDS = 3600.0  # after its expiry a row is deleted


class SessionBusy(Exception):
    """An answer in the conversation is running, in this process or on another server."""


@dataclass(slots=True, eq=False)
class SessionLock:
    """A lock for one answer in a conversation; `storing` while the answer's transaction is to release it."""

    owner: str
    session_id: str
    process: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    storing: bool = False


class SessionLocks:
    """The locks that this process holds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._busy: set[tuple[str, str]] = set()  # owners and conversations that this process is answering in
        self._held: set[SessionLock] = set()
        self._releases: set[asyncio.Task[None]] = set()

    @contextmanager
    def reserved(self, owner: str, session_id: str) -> Generator[None]:
        """Exclude this process's other answers in a conversation while the block runs. Raises SessionBusy.

        It neither waits nor needs the database.
        """
        if self.is_busy(owner, session_id):
            raise SessionBusy
        self._busy.add((owner, session_id))
        try:
            yield
        finally:
            self._busy.discard((owner, session_id))

    def is_busy(self, owner: str, session_id: str | None = None) -> bool:
        """Return whether this process is answering in a conversation of the owner's: in the named one, or in any."""
        if session_id is not None:
            return (owner, session_id) in self._busy
        return any(busy == owner for busy, _ in self._busy)

    async def acquire(self, owner: str, session_id: str) -> SessionLock:
        """Lock a reserved conversation. Raises SessionBusy while another process holds it, and StoreUnavailable."""
        lock = SessionLock(owner, session_id, this_process())
        async with self._database.session() as session:
            await _take(session, lock)
        self._held.add(lock)
        return lock

    def release_soon(self, lock: SessionLock) -> None:
        """Release a lock without waiting, unless the answer's own transaction does."""
        if lock in self._held and not lock.storing:
            self._held.discard(lock)
            task = asyncio.get_running_loop().create_task(self._release(lock))
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    @asynccontextmanager
    async def storing(self, lock: SessionLock) -> AsyncGenerator[None]:
        """Let the block release the lock, in the transaction that stores the answer."""
        lock.storing = True
        try:
            yield
        except BaseException:
            lock.storing = False
            self.release_soon(lock)
            raise
        self._held.discard(lock)

    async def renew(self) -> None:
        """Renew the held locks regularly. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            tokens = [lock.token for lock in self._held]
            if tokens:
                with suppress(StoreUnavailable):
                    async with self._database.session() as session:
                        mine = (SessionLockRow.process == this_process(), SessionLockRow.token.in_(tokens))
                        await session.execute(update(SessionLockRow).where(*mine).values(expires_at=_lease_end()))

    async def released(self) -> None:
        """Wait until all releases are done."""
        await asyncio.gather(*self._releases, return_exceptions=True)

    async def _release(self, lock: SessionLock) -> None:
        with suppress(StoreUnavailable):  # then the lock expires
            async with self._database.session() as session:
                await session.execute(delete(SessionLockRow).where(*_is(lock)))


async def confirm(session: AsyncSession, lock: SessionLock, *, release: bool) -> None:
    """Renew or release a lock in the transaction that it protects. Raises SessionLost when it is not held any more.

    A lock is lost when it expired and another process took it, or when the database was replaced.
    """
    if release:
        changed: Any = await session.execute(delete(SessionLockRow).where(*_is(lock)))
    else:
        changed = await session.execute(update(SessionLockRow).where(*_is(lock)).values(expires_at=_lease_end()))
    if changed.rowcount != 1:
        raise SessionLost


async def refuse_busy(session: AsyncSession, owner: str, session_ids: Iterable[str]) -> None:
    """Raise SessionBusy where another process holds the lock of one of these conversations."""
    rows = select(SessionLockRow).where(
        SessionLockRow.owner == owner,
        SessionLockRow.session_id.in_(list(session_ids)),
        SessionLockRow.process != this_process(),
        SessionLockRow.expires_at >= time.time(),
    )
    if any(not has_ended(row.process) for row in await session.scalars(rows)):
        raise SessionBusy


async def remove_outdated(session: AsyncSession) -> None:
    """Delete the rows of servers that ended without releasing them."""
    await session.execute(delete(SessionLockRow).where(SessionLockRow.expires_at < time.time() - OUTDATED_SECONDS))


async def _take(session: AsyncSession, lock: SessionLock) -> None:
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    values = {"process": lock.process, "token": lock.token, "expires_at": _lease_end()}
    statement = insert(SessionLockRow).values(owner=lock.owner, session_id=lock.session_id, **values)
    free = (SessionLockRow.expires_at < time.time()) | (SessionLockRow.process == lock.process)
    statement = statement.on_conflict_do_update(
        index_elements=[SessionLockRow.owner, SessionLockRow.session_id], set_=values, where=free
    ).returning(SessionLockRow.token)
    if await session.scalar(statement) is not None:
        return
    key = (SessionLockRow.owner == lock.owner, SessionLockRow.session_id == lock.session_id)
    holder = await session.scalar(select(SessionLockRow.process).where(*key))
    if holder is None or not has_ended(holder):
        raise SessionBusy
    stolen = update(SessionLockRow).where(*key, SessionLockRow.process == holder).values(**values)
    if await session.scalar(stolen.returning(SessionLockRow.token)) is None:
        raise SessionBusy


def _is(lock: SessionLock) -> tuple[Any, ...]:
    return (
        SessionLockRow.owner == lock.owner,
        SessionLockRow.session_id == lock.session_id,
        SessionLockRow.process == lock.process,
        SessionLockRow.token == lock.token,
    )


def _lease_end() -> float:
    return time.time() + LEASE_SECONDS


def this_process() -> str:
    """A unique name for this process: its PID namespace, its PID, and its start time."""
    pid = os.getpid()
    return f"{_pid_namespace()}/{pid}/{_started(pid)}"


def has_ended(process: str) -> bool:
    """Whether a process has certainly ended; False for a process on another machine."""
    namespace, pid, started = process.split("/")
    return bool(started) and namespace == _pid_namespace() and _started(int(pid)) != started


@cache
def _pid_namespace() -> str:
    """A hash of the machine's boot id and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        container = Path("/proc/self/ns/pid").readlink()
    except OSError:  # without /proc, where `_started` is empty as well
        boot, container = platform.node(), ""
    return hashlib.sha256(f"{boot}{container}".encode()).hexdigest()[:16]


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
