"""One answer at a time in a conversation, whatever server on the database writes it.

A lock is a row that says which process holds it and until when. It is renewed while its answer is under way; one whose
process has ended, or did not renew it, is anybody's. Clocks of machines on one database may differ by a few seconds.
"""

import asyncio
import hashlib
import os
import platform
import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
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
OUTDATED_SECONDS = 3600.0  # rows that ended so long ago are removed with what is too old


class SessionBusy(Exception):
    """An answer in the conversation is under way on another server."""


@dataclass(slots=True, eq=False)
class SessionLock:
    """The right to write an answer in a conversation; `storing` once the answer's transaction will give it back."""

    owner: str
    session_id: str
    process: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    storing: bool = False


class SessionLocks:
    """The locks that this process holds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: set[SessionLock] = set()
        self._releases: set[asyncio.Task[None]] = set()

    async def acquire(self, owner: str, session_id: str) -> SessionLock:
        """Lock a conversation. Raises SessionBusy while another process has it, and StoreUnavailable.

        Whoever calls holds the conversation within this process already.
        """
        lock = SessionLock(owner, session_id, this_process())
        async with self._database.session() as session:
            await _take(session, lock)
        self._held.add(lock)
        return lock

    def release_soon(self, lock: SessionLock) -> None:
        """Give a lock back without waiting, unless the answer's own transaction does."""
        if lock in self._held and not lock.storing:
            self._held.discard(lock)
            task = asyncio.get_running_loop().create_task(self._release(lock))
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    @asynccontextmanager
    async def storing(self, lock: SessionLock) -> AsyncGenerator[None]:
        """Leave it to the block to give a lock back, in the transaction that stores the answer."""
        lock.storing = True
        try:
            yield
        except BaseException:
            lock.storing = False
            self.release_soon(lock)
            raise
        self._held.discard(lock)

    async def renew(self) -> None:
        """Keep the locks that are held, for as long as it is not cancelled."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            tokens = [lock.token for lock in self._held]
            if tokens:
                with suppress(StoreUnavailable):
                    async with self._database.session() as session:
                        mine = (SessionLockRow.process == this_process(), SessionLockRow.token.in_(tokens))
                        await session.execute(update(SessionLockRow).where(*mine).values(expires_at=_lease_end()))

    async def released(self) -> None:
        """Wait until what was to be given back soon is."""
        await asyncio.gather(*self._releases, return_exceptions=True)

    async def _release(self, lock: SessionLock) -> None:
        with suppress(StoreUnavailable):  # then it ends by itself
            async with self._database.session() as session:
                await session.execute(delete(SessionLockRow).where(*_is(lock)))


async def confirm(session: AsyncSession, lock: SessionLock, *, release: bool) -> None:
    """Renew a lock, or give it back, in the transaction that writes under it. Raises SessionLost when it is not held.

    It was lost when this process could not renew it and another took it, or when its database was replaced.
    """
    if release:
        changed: Any = await session.execute(delete(SessionLockRow).where(*_is(lock)))
    else:
        changed = await session.execute(update(SessionLockRow).where(*_is(lock)).values(expires_at=_lease_end()))
    if changed.rowcount != 1:
        raise SessionLost


async def refuse_busy(session: AsyncSession, owner: str, session_ids: Iterable[str]) -> None:
    """Raise SessionBusy when another process answers in one of an owner's conversations."""
    rows = select(SessionLockRow).where(
        SessionLockRow.owner == owner,
        SessionLockRow.session_id.in_(list(session_ids)),
        SessionLockRow.process != this_process(),
        SessionLockRow.expires_at >= time.time(),
    )
    if any(not has_ended(row.process) for row in await session.scalars(rows)):
        raise SessionBusy


async def remove_outdated(session: AsyncSession) -> None:
    """Remove the rows of servers that went without giving them back."""
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
    """A name for this process that no other has had: where its id is counted, the id, and when it started."""
    pid = os.getpid()
    return f"{_where_ids_are_counted()}/{pid}/{_started(pid)}"


def has_ended(process: str) -> bool:
    """Whether a process is known to have ended; of one on another machine nothing is known."""
    where, pid, started = process.split("/")
    return bool(started) and where == _where_ids_are_counted() and _started(int(pid)) != started


@cache
def _where_ids_are_counted() -> str:
    """The machine since its start, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        container = Path("/proc/self/ns/pid").readlink()
    except OSError:  # without /proc, which also keeps `_started` from saying anything
        boot, container = platform.node(), ""
    return hashlib.sha256(f"{boot}{container}".encode()).hexdigest()[:16]


def _started(pid: int) -> str:
    """When a process started, in ticks since its machine did; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
