"""Votes in the database of conversations."""

from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage import quota
from serve.storage.database import Database
from serve.storage.store import Store
from serve.storage.tables import VoteRow


async def add_vote(store: Store, vote: VoteRow) -> None:
    """Store a vote. Raises QuotaExceeded."""
    async with store.session() as session:
        session.add(vote)
        await session.flush()
        size = await quota.bytes_of(session, quota.VOTE_BYTES, *_is(vote.owner, vote.id))
        await quota.count(session, vote.owner, size, store.max_bytes)


async def votes(database: Database, owner: str, *, limit: int, after: str | None) -> tuple[list[VoteRow], bool]:
    """An owner's votes, newest first, and whether there are more; `after` is the last id of the page before."""
    async with database.reading() as session:
        statement = select(VoteRow).where(VoteRow.owner == owner)
        if after is not None:
            last = await session.get(VoteRow, (owner, after))
            if last is None:
                return [], False
            earlier = VoteRow.created_at < last.created_at
            simultaneous = and_(VoteRow.created_at == last.created_at, VoteRow.id < last.id)
            statement = statement.where(or_(earlier, simultaneous))
        newest_first = statement.order_by(VoteRow.created_at.desc(), VoteRow.id.desc())
        rows = list(await session.scalars(newest_first.limit(limit + 1)))
        return rows[:limit], len(rows) > limit


async def delete_vote(database: Database, owner: str, vote_id: str) -> bool:
    """Delete a vote; False where there is none of that id."""

    async def work(session: AsyncSession) -> bool:
        vote = await session.get(VoteRow, (owner, vote_id))
        if vote is None:
            return False
        freed = await quota.bytes_of(session, quota.VOTE_BYTES, *_is(owner, vote_id))
        await session.delete(vote)
        await session.flush()
        await quota.count(session, owner, -freed)
        return True

    return await database.deleting(work)


def _is(owner: str, vote_id: str) -> tuple[Any, Any]:
    return VoteRow.owner == owner, VoteRow.id == vote_id
