"""Whole conversations that come in: all of them in one transaction, a batch of rows at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Table, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from serve.storage import quota
from serve.storage.failures import StoreUnavailable
from serve.storage.store import Store
from serve.storage.tables import ConversationRow, MessageRow, folded

BATCH = 100  # conversations; what the event loop does for a batch stays short
KEYS = 500  # ids in one statement
ATTEMPTS = 3  # another request may add the very id that comes in

_conversations = cast(Table, ConversationRow.__table__)
_messages = cast(Table, MessageRow.__table__)


@dataclass(slots=True)
class NewConversation:
    """A conversation that comes in: the values of its row and of its messages'."""

    values: dict[str, Any]
    messages: list[dict[str, Any]]

    def __post_init__(self) -> None:
        self.values["folded_title"] = folded(self.values["title"])
        for message in self.messages:
            message["folded_content"] = folded(message["content"])


async def add_conversations(store: Store, owner: str, coming: Sequence[NewConversation]) -> int:
    """Store conversations as they were; return how many. What has an id, or a message's, that is there stays away.

    Raises StoreUnavailable and QuotaExceeded; then none is stored.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with store.session() as session:
                return await _add(session, owner, coming, store.max_bytes)
        except StoreUnavailable as error:
            if attempt == ATTEMPTS or not isinstance(error.__cause__, IntegrityError):
                raise
    raise AssertionError("unreachable")


async def _add(session: AsyncSession, owner: str, coming: Sequence[NewConversation], limit: int | None) -> int:
    added = 0
    for start in range(0, len(coming), BATCH):
        added += await _add_batch(session, owner, coming[start : start + BATCH], limit)
    return added


async def _add_batch(session: AsyncSession, owner: str, coming: Sequence[NewConversation], limit: int | None) -> int:
    known = await _known(session, ConversationRow.id, owner, [each.values["id"] for each in coming])
    ids = [message["id"] for each in coming for message in each.messages]
    known_messages = await _known(session, MessageRow.id, owner, ids)
    new: list[NewConversation] = []
    for each in coming:
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
    """Which of these ids an owner has already."""
    known: set[str] = set()
    of_owner = column.class_.owner == owner
    for start in range(0, len(ids), KEYS):
        known.update(await session.scalars(select(column).where(of_owner, column.in_(ids[start : start + KEYS]))))
    return known
