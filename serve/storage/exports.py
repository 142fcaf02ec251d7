"""All of an owner's conversations, read a batch at a time: few queries, and memory for one batch."""

from collections.abc import AsyncIterator
from itertools import groupby

from sqlalchemy import select

from serve.storage.store import Store
from serve.storage.tables import ConversationRow, MessageRow

PAGE = 200  # conversations
MESSAGES = 500  # at most in a batch, unless one conversation has more

Whole = tuple[ConversationRow, list[MessageRow]]


async def whole_conversations(store: Store, owner: str) -> AsyncIterator[list[Whole]]:
    """An owner's conversations with their messages, newest first, in batches. Raises StoreUnavailable."""
    after, more = None, True
    while more:
        rows, more = await store.page(owner, limit=PAGE, after=after, query=None)
        batch: list[ConversationRow] = []
        messages = 0
        for row, count in rows:
            after = row.id
            if batch and messages + count > MESSAGES:
                yield await _with_messages(store, owner, batch)
                batch, messages = [], 0
            batch.append(row)
            messages += count
        if batch:
            yield await _with_messages(store, owner, batch)


async def _with_messages(store: Store, owner: str, rows: list[ConversationRow]) -> list[Whole]:
    of_batch = (MessageRow.owner == owner, MessageRow.conversation_id.in_([row.id for row in rows]))
    in_order = select(MessageRow).where(*of_batch).order_by(MessageRow.conversation_id, MessageRow.position)
    async with store.reading() as session:
        found = groupby(await session.scalars(in_order), key=lambda message: message.conversation_id)
        by_id = {id: list(messages) for id, messages in found}
    return [(row, by_id.get(row.id, [])) for row in rows]
