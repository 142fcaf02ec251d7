"""Moves all conversations, messages, documents and votes of one owner to another; equal ids of both lose nothing."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Executable, Table, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage.database import Database, retry_conflicts
from serve.storage.quota import recount
from serve.storage.store import new_message_id
from serve.storage.tables import ConversationRow, DocumentRow, MessageRow, ShadowPairRow, ShareRow, VoteRow

IDS_PER_STATEMENT = 500
_conversations = cast(Table, ConversationRow.__table__)
_messages = cast(Table, MessageRow.__table__)
_votes = cast(Table, VoteRow.__table__)
_documents = cast(Table, DocumentRow.__table__)
_shares = cast(Table, ShareRow.__table__)
_pairs = cast(Table, ShadowPairRow.__table__)


@dataclass(frozen=True, slots=True)
class Amount:
    """How many rows of each table an owner has."""

    conversations: int = 0
    messages: int = 0
    votes: int = 0
    documents: int = 0

    def __bool__(self) -> bool:
        return bool(self.conversations or self.messages or self.votes or self.documents)


@dataclass(frozen=True, slots=True)
class Holding:
    """What an owner has, and when one of its conversations was last changed."""

    owner: str
    amount: Amount
    latest: datetime | None


async def holdings(database: Database) -> list[Holding]:
    """What each owner has, sorted by id."""
    counts: list[dict[str, int]] = []
    async with database.reading() as session:
        for table in (_conversations, _messages, _votes, _documents):
            rows = await session.execute(select(table.c.owner, func.count()).group_by(table.c.owner))
            counts.append({row[0]: row[1] for row in rows})
        of_owner = select(ConversationRow.owner, func.max(ConversationRow.updated_at)).group_by(ConversationRow.owner)
        latest: dict[str, datetime] = {row[0]: row[1] for row in await session.execute(of_owner)}
    owners = sorted({owner for count in counts for owner in count})
    return [Holding(owner, Amount(*(count.get(owner, 0) for count in counts)), latest.get(owner)) for owner in owners]


async def move(database: Database, source: str, target: str) -> Amount:
    """Move everything of `source` to `target`, in one transaction; return how much it was. Raises StoreUnavailable.

    Where `target` has a conversation, message or vote of the same id, the moved one gets a new id. An exception is a
    conversation that continues the target's: it is appended. A server may run at the same time: a conversation that it
    creates during the move stays with `source`, and a message that it adds then is refused.
    """
    return await retry_conflicts(lambda: _move(database, source, target))


async def _move(database: Database, source: str, target: str) -> Amount:
    async with database.session() as session:
        mine = select(_conversations.c.id).where(_conversations.c.owner == source)
        ids = list(await session.scalars(mine.with_for_update()))
        await _rename_messages(session, source, target)
        messages = 0
        for id in await _shared(session, _conversations, source, target):
            messages += await _move_shared(session, source, target, id)
        shared = set(await session.scalars(mine))
        alone = [id for id in ids if id in shared]
        for start in range(0, len(alone), IDS_PER_STATEMENT):
            messages += await _move_conversations(session, source, target, alone[start : start + IDS_PER_STATEMENT])
        for id in await _shared(session, _votes, source, target):
            new = f"vote-{secrets.token_hex(12)}"
            await session.execute(update(_votes).where(_votes.c.owner == source, _votes.c.id == id).values(id=new))
        votes = await _rowcount(session, update(_votes).where(_votes.c.owner == source).values(owner=target))
        # Their ids are random: no two owners have the same.
        documents = await _rowcount(
            session, update(_documents).where(_documents.c.owner == source).values(owner=target)
        )
        for table in (_shares, _pairs):
            await session.execute(update(table).where(table.c.owner == source).values(owner=target))
        for owner in sorted((source, target)):  # in one order, so that two moves cannot deadlock
            await recount(session, owner)
        return Amount(len(ids), messages, votes, documents)


async def _shared(session: AsyncSession, table: Table, source: str, target: str) -> list[str]:
    """The ids of a table that both owners have."""
    other = table.alias()
    both = select(table.c.id).join(other, other.c.id == table.c.id)
    return list(await session.scalars(both.where(table.c.owner == source, other.c.owner == target)))


async def _rename_messages(session: AsyncSession, source: str, target: str) -> None:
    for id in await _shared(session, _messages, source, target):
        new, mine = new_message_id(), _messages.c.owner == source
        await session.execute(update(_messages).where(mine, _messages.c.id == id).values(id=new))
        await session.execute(update(_messages).where(mine, _messages.c.parent_id == id).values(parent_id=new))


async def _move_shared(session: AsyncSession, source: str, target: str, id: str) -> int:
    """Move a conversation whose id the target has as well; return how many messages it has."""
    mine, theirs = await _parents(session, source, id), await _parents(session, target, id)
    roots = [parent for parent in mine.values() if parent not in mine]
    if not mine or not all(root in theirs for root in roots):
        return await _move_conversations(session, source, target, [id], new_id=f"conv-{secrets.token_hex(12)}")
    of_target = (_messages.c.owner == target, _messages.c.conversation_id == id)
    last = await session.scalar(select(func.max(_messages.c.position)).where(*of_target))
    moved = await _rowcount(
        session,
        update(_messages)
        .where(_messages.c.owner == source, _messages.c.conversation_id == id)
        .values(owner=target, position=_messages.c.position + (last or 0)),
    )
    of_source = select(_conversations.c.updated_at).where(_conversations.c.owner == source, _conversations.c.id == id)
    updated_at = (await session.execute(of_source)).scalar_one()
    row = (_conversations.c.owner == target, _conversations.c.id == id, _conversations.c.updated_at < updated_at)
    await session.execute(update(_conversations).where(*row).values(updated_at=updated_at))
    await session.execute(delete(_conversations).where(_conversations.c.owner == source, _conversations.c.id == id))
    return moved


async def _parents(session: AsyncSession, owner: str, conversation_id: str) -> dict[str, str | None]:
    """The parents of a conversation's messages, by the messages' ids."""
    of_conversation = (_messages.c.owner == owner, _messages.c.conversation_id == conversation_id)
    rows = await session.execute(select(_messages.c.id, _messages.c.parent_id).where(*of_conversation))
    return {row[0]: row[1] for row in rows}


async def _move_conversations(
    session: AsyncSession, source: str, target: str, ids: Sequence[str], new_id: str | None = None
) -> int:
    """Move conversations; return how many messages they have. With `new_id`, the only one of `ids` gets that id.

    The messages' foreign key needs the new row before the old row is deleted.
    """
    rest = [column for column in _conversations.c if column.name not in ("owner", "id")]
    id = _conversations.c.id if new_id is None else literal(new_id)
    old = (_conversations.c.owner == source, _conversations.c.id.in_(ids))
    copies = select(literal(target), id, *rest).where(*old)
    await session.execute(
        insert(_conversations).from_select(["owner", "id", *(column.name for column in rest)], copies)
    )
    values: dict[str, Any] = {"owner": target} | ({} if new_id is None else {"conversation_id": new_id})
    moved = update(_messages).where(_messages.c.owner == source, _messages.c.conversation_id.in_(ids)).values(**values)
    messages = await _rowcount(session, moved)
    if new_id is not None:
        for table in (_documents, _shares, _pairs, _votes):
            theirs = update(table).where(table.c.owner == source, table.c.conversation_id.in_(ids))
            await session.execute(theirs.values(conversation_id=new_id))
    await session.execute(delete(_conversations).where(*old))
    return messages


async def _rowcount(session: AsyncSession, statement: Executable) -> int:
    """Execute a statement; return how many rows it changed."""
    return cast("CursorResult[Any]", await session.execute(statement)).rowcount
