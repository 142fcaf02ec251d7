"""Bulk transfer of whole conversations: all of an owner's conversations out, many conversations in.

Exports read a batch at a time, with few queries and memory for one batch. Imports write all in one transaction.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from serve.storage import quota
from serve.storage.database import retry_conflicts
from serve.storage.store import Store
from serve.storage.tables import ConversationRow, MessageRow, folded

EXPORT_PAGE = 200  # conversations in one query
EXPORT_MESSAGES = 500  # at most in a batch, unless one conversation has more
IMPORT_BATCH = 100  # conversations; the event loop is blocked for one batch at most
IDS_PER_STATEMENT = 500

ConversationWithMessages = tuple[ConversationRow, list[MessageRow]]
_conversations = cast(Table, ConversationRow.__table__)
_messages = cast(Table, MessageRow.__table__)


async def export_batches(store: Store, owner: str) -> AsyncIterator[list[ConversationWithMessages]]:
    """Yield an owner's conversations with their messages, newest first, in batches. Raises StoreUnavailable."""
    after, more = None, True
    while more:
        rows, more = await store.page(owner, limit=EXPORT_PAGE, after=after, query=None)
        batch: list[ConversationRow] = []
        messages = 0
        for row, count in rows:
            after = row.id
            if batch and messages + count > EXPORT_MESSAGES:
                yield await _with_messages(store, owner, batch)
                batch, messages = [], 0
            batch.append(row)
            messages += count
        if batch:
            yield await _with_messages(store, owner, batch)


async def _with_messages(store: Store, owner: str, rows: list[ConversationRow]) -> list[ConversationWithMessages]:
    of_batch = (MessageRow.owner == owner, MessageRow.conversation_id.in_([row.id for row in rows]))
    in_order = select(MessageRow).where(*of_batch).order_by(MessageRow.conversation_id, MessageRow.position)
    async with store.reading() as session:
        groups = groupby(await session.scalars(in_order), key=lambda message: message.conversation_id)
        by_id = {id: list(messages) for id, messages in groups}
    return [(row, by_id.get(row.id, [])) for row in rows]


@dataclass(slots=True)
class NewConversation:
    """A conversation to import: the values of its row and of its messages' rows."""

    values: dict[str, Any]
    messages: list[dict[str, Any]]

    def __post_init__(self) -> None:
        self.values["folded_title"] = folded(self.values["title"])
        for message in self.messages:
            message["folded_content"] = folded(message["content"])


async def add_conversations(store: Store, owner: str, conversations: Sequence[NewConversation]) -> int:
    """Store conversations unchanged; return how many. One whose id, or a message's id, exists already is skipped.

    Raises StoreUnavailable and QuotaExceeded; then none is stored.
    """

    async def work() -> int:
        async with store.session() as session:
            added = 0
            for start in range(0, len(conversations), IMPORT_BATCH):
                batch = conversations[start : start + IMPORT_BATCH]
                added += await _import_batch(session, owner, batch, store.max_bytes)
            return added

    return await retry_conflicts(work)


async def _import_batch(session: AsyncSession, owner: str, batch: Sequence[NewConversation], limit: int | None) -> int:
    known = await _known(session, ConversationRow.id, owner, [each.values["id"] for each in batch])
    message_ids = [message["id"] for each in batch for message in each.messages]
    known_messages = await _known(session, MessageRow.id, owner, message_ids)
    new: list[NewConversation] = []
    for each in batch:
        own = {message["id"] for message in each.messages}
        if each.values["id"] not in known and known_messages.isdisjoint(own):
            known.add(each.values["id"])
            known_messages |= own
            new.append(each)
    if not new:
        return 0
    await session.execute(insert(_conversations), [each.values for each in new])
    if messages := [message for each in new for message in each.messages]:
        await session.execute(insert(_messages), messages)
    of_batch = MessageRow.conversation_id.in_([each.values["id"] for each in new])
    size = await quota.bytes_of(session, quota.MESSAGE_BYTES, MessageRow.owner == owner, of_batch)
    await quota.count(session, owner, size + len(new) * quota.CONVERSATION_BYTES, limit)
    return len(new)


async def _known(session: AsyncSession, column: InstrumentedAttribute[str], owner: str, ids: Sequence[str]) -> set[str]:
    """The ids among `ids` that an owner has already."""
    known: set[str] = set()
    of_owner = column.class_.owner == owner
    for start in range(0, len(ids), IDS_PER_STATEMENT):
        some = ids[start : start + IDS_PER_STATEMENT]
        known.update(await session.scalars(select(column).where(of_owner, column.in_(some))))
    return known
