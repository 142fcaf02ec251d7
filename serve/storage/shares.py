"""Shared conversations: copies that anybody may read who has their id, until they expire or are revoked."""

import json
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from serve.storage import quota
from serve.storage.database import Database
from serve.storage.store import Store
from serve.storage.tables import ShareRow


class TooManyShares(Exception):
    """The owner shares as many conversations as they may."""


async def add_share(store: Store, share: ShareRow, *, max_count: int) -> None:
    """Store a share. Raises TooManyShares and QuotaExceeded."""
    share.stored_bytes = quota.ROW_BYTES + len(json.dumps(share.messages).encode())
    await delete_expired(store, share.owner)
    async with store.session() as session:
        count = await session.scalar(select(func.count()).where(ShareRow.owner == share.owner)) or 0
        if count >= max_count:
            raise TooManyShares
        session.add(share)
        await session.flush()
        await quota.count(session, share.owner, share.stored_bytes, store.max_bytes)


async def shares(database: Database, owner: str) -> list[ShareRow]:
    """An owner's valid shares without their messages, newest first."""
    async with database.reading() as session:
        valid = select(ShareRow).where(ShareRow.owner == owner, ShareRow.expires_at > datetime.now(UTC))
        return list(await session.scalars(valid.order_by(ShareRow.created_at.desc(), ShareRow.id)))


async def shared(database: Database, share_id: str) -> ShareRow | None:
    """A share with its messages, whoever asks; None where there is none of that id, or it has expired."""
    async with database.reading() as session:
        valid = select(ShareRow).where(ShareRow.id == share_id, ShareRow.expires_at > datetime.now(UTC))
        return await session.scalar(valid.options(undefer(ShareRow.messages)))


async def delete_share(database: Database, owner: str, share_id: str) -> bool:
    """Revoke a share; False where the owner has none of that id."""
    return bool(await _delete(database, owner, ShareRow.id == share_id))


async def delete_expired(database: Database, owner: str) -> int:
    """Delete an owner's expired shares; return how many there were."""
    return await _delete(database, owner, ShareRow.expires_at <= datetime.now(UTC))


async def _delete(database: Database, owner: str, which: ColumnElement[bool]) -> int:
    async def work(session: AsyncSession) -> int:
        gone = delete(ShareRow).where(ShareRow.owner == owner, which).returning(ShareRow.stored_bytes)
        freed = (await session.scalars(gone)).all()
        await quota.count(session, owner, -sum(freed))
        return len(freed)

    return await database.deleting(work)
