"""Pairs of a served and a shadow's answer in the database of conversations, until their owner has voted on them."""

import json

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage import quota
from serve.storage.database import Database
from serve.storage.store import Store
from serve.storage.tables import ConversationRow, ShadowPairRow, TrainingConsentRow, VoteRow

MAX_PAIRS = 100  # of each owner; the oldest make place for new ones


async def add_pair(store: Store, pair: ShadowPairRow, *, asks: bool) -> bool:
    """Store a pair; False where its conversation was deleted meanwhile, or with `asks`, its owner does not consent.

    Raises QuotaExceeded.
    """
    pair.stored_bytes = quota.ROW_BYTES + len(json.dumps([pair.prompt, pair.a, pair.b]).encode())
    async with store.session() as session:
        if asks:
            consent = await session.get(TrainingConsentRow, pair.owner)
            if consent is None or not consent.given:
                return False
        if await session.get(ConversationRow, (pair.owner, pair.conversation_id)) is None:
            return False
        session.add(pair)
        await session.flush()
        newest = _newest_first(pair.owner).offset(MAX_PAIRS)
        freed = sum([await _delete(session, old) for old in (await session.scalars(newest)).all()])
        await quota.count(session, pair.owner, pair.stored_bytes - freed, store.max_bytes)
        return True


async def pairs(database: Database, owner: str, *, limit: int) -> tuple[list[ShadowPairRow], bool]:
    """An owner's pairs, newest first, and whether there are more."""
    async with database.reading() as session:
        rows = list(await session.scalars(_newest_first(owner).limit(limit + 1)))
        return rows[:limit], len(rows) > limit


async def vote_on(store: Store, owner: str, pair_id: str, vote: VoteRow) -> VoteRow | None:
    """Replace a pair by a vote, whose prompt and answers come from it; None where there is no such pair.

    Raises QuotaExceeded.
    """
    async with store.session() as session:
        pair = await session.get(ShadowPairRow, (owner, pair_id))
        if pair is None:
            return None
        vote.prompt, vote.a, vote.b, vote.conversation_id = pair.prompt, pair.a, pair.b, pair.conversation_id
        session.add(vote)
        await session.flush()
        size = await quota.bytes_of(session, quota.VOTE_BYTES, VoteRow.owner == owner, VoteRow.id == vote.id)
        freed = await _delete(session, pair)
        await quota.count(session, owner, size - freed, store.max_bytes)
        return vote


async def delete_pair(database: Database, owner: str, pair_id: str) -> bool:
    """Delete a pair; False where there is none of that id."""

    async def work(session: AsyncSession) -> bool:
        pair = await session.get(ShadowPairRow, (owner, pair_id))
        if pair is None:
            return False
        await quota.count(session, owner, -await _delete(session, pair))
        return True

    return await database.deleting(work)


def _newest_first(owner: str) -> Select[ShadowPairRow]:
    return (
        select(ShadowPairRow)
        .where(ShadowPairRow.owner == owner)
        .order_by(ShadowPairRow.created_at.desc(), ShadowPairRow.id.desc())
    )


async def _delete(session: AsyncSession, pair: ShadowPairRow) -> int:
    """Delete a pair; return the bytes that it had."""
    size = pair.stored_bytes
    await session.delete(pair)
    await session.flush()
    return size
