"""Deletes old conversations and votes, a batch in each transaction, so that no request waits for long."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage import quota
from serve.storage.database import Database
from serve.storage.session_locks import remove_outdated
from serve.storage.store import delete_conversations
from serve.storage.tables import ConversationRow, VoteRow

BATCH = 200


async def delete_older_than(database: Database, days: int) -> None:
    """Delete conversations unchanged for so many days, and votes of that age. Raises StoreUnavailable."""
    until = datetime.now(UTC) - timedelta(days=days)
    while await database.deleting(lambda session: _delete_conversations(session, until)):
        pass
    while await database.deleting(lambda session: _delete_votes(session, until)):
        pass
    await database.deleting(remove_outdated)


async def _delete_conversations(session: AsyncSession, until: datetime) -> int:
    old = select(ConversationRow.owner, ConversationRow.id).where(ConversationRow.updated_at < until)
    of_owner: defaultdict[str, list[str]] = defaultdict(list)
    for owner, id in await session.execute(old.limit(BATCH)):
        of_owner[owner].append(id)
    return sum([await delete_conversations(session, owner, of_owner[owner]) for owner in sorted(of_owner)])


async def _delete_votes(session: AsyncSession, until: datetime) -> int:
    old = select(VoteRow.owner, VoteRow.id, quota.VOTE_BYTES).where(VoteRow.created_at < until)
    votes = (await session.execute(old.order_by(VoteRow.owner).limit(BATCH))).all()
    freed: defaultdict[str, int] = defaultdict(int)
    for owner, id, size in votes:
        freed[owner] += size
        await session.execute(delete(VoteRow).where(VoteRow.owner == owner, VoteRow.id == id))
    for owner, size in freed.items():
        await quota.count(session, owner, -size)
    return len(votes)
