"""The store of conversations: append, read, list, search, rename, delete and rate.

It knows owners, conversations and messages, and nothing of HTTP or models.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, delete, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage import quota, session_locks
from serve.storage.database import Database
from serve.storage.search_index import contains, conversation_has
from serve.storage.session_locks import SessionLock
from serve.storage.tables import ConversationRow, DocumentRow, MessageRow, ShadowPairRow, ShareRow, VoteRow

TITLE_CHARS = 60
MAX_NUMBER = 1000  # of titles that are equal but for it
DELETE_BATCH = 100  # conversations in one transaction, whose journal must fit on a full disk


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to store."""

    role: str
    content: str
    id: str
    model: str | None = None
    finish_reason: str | None = None
    sources: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    timing: dict[str, Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


def new_message_id() -> str:
    """A new message id."""
    return f"msg-{secrets.token_hex(12)}"


class Store(Database):
    """The conversations of all owners; `max_bytes` is each owner's quota."""

    def __init__(self, url: str, max_bytes: int | None = None) -> None:
        super().__init__(url)
        self.max_bytes = max_bytes

    async def append(
        self,
        owner: str,
        conversation_id: str,
        messages: Sequence[NewMessage],
        parent_id: str | None,
        lock: SessionLock | None = None,
        *,
        answer: bool = False,
        search_sources: str | None = None,
    ) -> None:
        """Append messages after `parent_id`, each the parent of the next; create the conversation where it is new.

        `search_sources` is a new conversation's choice of sources. `lock` must be held. With `answer`, the lock is
        released, and the owner's quota is not checked: it was checked for the question. Raises SessionLost and
        QuotaExceeded.
        """
        now = datetime.now(UTC)
        async with self.session() as session:
            if lock is not None:
                await session_locks.confirm(session, lock, release=answer)
            conversation = await session.get(ConversationRow, (owner, conversation_id))
            added = 0
            if conversation is None:
                title = await _title(session, owner, messages)
                conversation = ConversationRow(
                    owner=owner,
                    id=conversation_id,
                    title=title,
                    created_at=now,
                    updated_at=now,
                    search_sources=search_sources,
                )
                session.add(conversation)
                await session.flush()
                added = quota.CONVERSATION_BYTES
            conversation.updated_at = now
            if not conversation.title:
                conversation.title = await _title(session, owner, messages)
            last = await session.scalar(select(func.max(MessageRow.position)).where(*_of(owner, conversation_id)))
            for position, message in enumerate(messages, start=(last or 0) + 1):
                session.add(
                    MessageRow(
                        owner=owner,
                        conversation_id=conversation_id,
                        id=message.id,
                        parent_id=parent_id,
                        position=position,
                        role=message.role,
                        content=message.content,
                        created_at=now,
                        model=message.model,
                        finish_reason=message.finish_reason,
                        sources=message.sources,
                        usage=message.usage,
                        timing=message.timing,
                        tool_calls=message.tool_calls,
                        tool_call_id=message.tool_call_id,
                    )
                )
                parent_id = message.id
                added += quota.message_bytes(
                    message.content, message.sources, message.usage, message.timing, message.tool_calls
                )
            await session.flush()
            await quota.count(session, owner, added, None if answer else self.max_bytes)

    async def messages(self, owner: str, conversation_id: str) -> list[MessageRow]:
        """All messages of a conversation, oldest first; none where there is no such conversation."""
        async with self.reading() as session:
            return await _messages(session, owner, conversation_id)

    async def message(self, owner: str, message_id: str) -> MessageRow | None:
        """One message; None where the owner has none of that id."""
        async with self.reading() as session:
            return await session.get(MessageRow, (owner, message_id))

    async def conversation(self, owner: str, conversation_id: str) -> tuple[ConversationRow, list[MessageRow]] | None:
        """A conversation with its messages; None where the owner has none of that id."""
        async with self.reading() as session:
            conversation = await session.get(ConversationRow, (owner, conversation_id))
            return None if conversation is None else (conversation, await _messages(session, owner, conversation_id))

    async def page(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None,
        query: str | None,
        pinned: bool | None = None,
        archived: bool | None = None,
        folder: str | None = None,
    ) -> tuple[list[tuple[ConversationRow, int]], bool]:
        """Conversations with their message counts, newest first, and whether there are more.

        `after` is the last id of the page before; `query` is searched in titles and messages, ignoring case.
        The others choose by how the conversations are arranged; None takes all.
        """
        async with self.reading() as session:
            statement = _newest_first(owner)
            if pinned is not None:
                statement = statement.where(ConversationRow.pinned.is_(pinned))
            if archived is not None:
                statement = statement.where(ConversationRow.archived.is_(archived))
            if folder is not None:
                statement = statement.where(ConversationRow.folder == folder)
            if query:
                statement = statement.where(await conversation_has(session, owner, query))
            if after is not None:
                last = await session.get(ConversationRow, (owner, after))
                if last is None:
                    return [], False
                statement = statement.where(
                    tuple_(ConversationRow.updated_at, ConversationRow.id)
                    < tuple_(literal(last.updated_at, ConversationRow.updated_at.type), literal(last.id))
                )
            rows = (await session.execute(statement.limit(limit + 1))).all()
            return [(row[0], row[1]) for row in rows[:limit]], len(rows) > limit

    async def newest_matches(self, owner: str, conversation_ids: Sequence[str], query: str) -> dict[str, MessageRow]:
        """The newest message of each of these conversations that contains the query, by the conversation's id."""
        async with self.reading() as session:
            newest = (
                select(MessageRow.conversation_id, func.max(MessageRow.position).label("position"))
                .where(
                    MessageRow.owner == owner,
                    MessageRow.conversation_id.in_(conversation_ids),
                    MessageRow.role != "system",
                    contains(session, MessageRow.folded_content, query),
                )
                .group_by(MessageRow.conversation_id)
                .subquery()
            )
            same = (MessageRow.conversation_id == newest.c.conversation_id) & (MessageRow.position == newest.c.position)
            rows = await session.scalars(select(MessageRow).join(newest, same).where(MessageRow.owner == owner))
            return {row.conversation_id: row for row in rows}

    async def change(self, owner: str, conversation_id: str, values: Mapping[str, Any]) -> bool:
        """Change columns of a conversation, such as its title; False where there is none."""
        async with self.session() as session:
            conversation = await session.get(ConversationRow, (owner, conversation_id))
            if conversation is None:
                return False
            for name, value in values.items():
                setattr(conversation, name, value)
            return True

    async def folders(self, owner: str) -> list[tuple[str, int]]:
        """The owner's folders by name, each with how many conversations it has."""
        async with self.reading() as session:
            counted = select(ConversationRow.folder, func.count()).where(
                ConversationRow.owner == owner, ConversationRow.folder.is_not(None)
            )
            rows = await session.execute(counted.group_by(ConversationRow.folder).order_by(ConversationRow.folder))
            return [(str(row[0]), row[1]) for row in rows]

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """Delete a conversation and its messages; False where there is none of that id. Raises SessionBusy."""
        return bool(await self._delete(owner, [conversation_id]))

    async def delete_all(self, owner: str) -> int:
        """Delete all of an owner's conversations; return how many there were. Raises SessionBusy."""
        count = 0
        while ids := await self._batch_of(owner):
            count += await self._delete(owner, ids)
        return count

    async def _delete(self, owner: str, ids: Sequence[str]) -> int:
        async def work(session: AsyncSession) -> int:
            await session_locks.refuse_busy(session, owner, ids)
            return await delete_conversations(session, owner, ids)

        return await self.deleting(work)

    async def _batch_of(self, owner: str) -> Sequence[str]:
        async with self.reading() as session:
            ids = select(ConversationRow.id).where(ConversationRow.owner == owner).limit(DELETE_BATCH)
            return (await session.scalars(ids)).all()

    async def delete_message(self, owner: str, conversation_id: str, message_id: str) -> bool:
        """Delete one message; its parent becomes the parent of the messages after it. False where there is none.

        Raises SessionBusy.
        """

        async def work(session: AsyncSession) -> bool:
            await session_locks.refuse_busy(session, owner, [conversation_id])
            message = await session.get(MessageRow, (owner, message_id))
            if message is None or message.conversation_id != conversation_id:
                return False
            freed = await quota.bytes_of(session, quota.MESSAGE_BYTES, *_is(message))
            following = (*_of(owner, conversation_id), MessageRow.parent_id == message_id)
            await session.execute(update(MessageRow).where(*following).values(parent_id=message.parent_id))
            await session.delete(message)
            pairs = (ShadowPairRow.owner == owner, ShadowPairRow.conversation_id == conversation_id)
            freed += sum(
                await session.scalars(delete(ShadowPairRow).where(*pairs).returning(ShadowPairRow.stored_bytes))
            )
            await session.flush()
            await quota.count(session, owner, -freed)
            return True

        return await self.deleting(work)

    async def rate(
        self,
        owner: str,
        conversation_id: str,
        message_id: str,
        rating: int | None,
        comment: str | None,
        correction: str | None,
    ) -> bool:
        """Store a rating of an answer, None: withdraw it. False where there is no such answer. Raises QuotaExceeded."""
        async with self.session() as session:
            message = await session.get(MessageRow, (owner, message_id))
            if message is None or message.role != "assistant":
                return False
            if message.conversation_id != conversation_id:
                return False
            before = await quota.bytes_of(session, quota.MESSAGE_BYTES, *_is(message))
            message.rating, message.comment, message.correction = rating, comment, correction
            message.judged_at = None if rating is None else datetime.now(UTC)
            await session.flush()
            after = await quota.bytes_of(session, quota.MESSAGE_BYTES, *_is(message))
            await quota.count(session, owner, after - before, self.max_bytes)
            return True


async def delete_conversations(session: AsyncSession, owner: str, ids: Sequence[str]) -> int:
    """Delete conversations with their messages, documents, shares, shadow pairs and votes on these; return how many."""
    messages = (MessageRow.owner == owner, MessageRow.conversation_id.in_(ids))
    freed = await quota.bytes_of(session, quota.MESSAGE_BYTES, *messages)
    await session.execute(delete(MessageRow).where(*messages))
    for table in (DocumentRow, ShareRow, ShadowPairRow):
        of_them = (table.owner == owner, table.conversation_id.in_(ids))
        freed += sum(await session.scalars(delete(table).where(*of_them).returning(table.stored_bytes)))
    votes = (VoteRow.owner == owner, VoteRow.conversation_id.in_(ids))
    freed += await quota.bytes_of(session, quota.VOTE_BYTES, *votes)
    await session.execute(delete(VoteRow).where(*votes))
    own = (ConversationRow.owner == owner, ConversationRow.id.in_(ids))
    deleted = (await session.scalars(delete(ConversationRow).where(*own).returning(ConversationRow.id))).all()
    await quota.count(session, owner, -freed - len(deleted) * quota.CONVERSATION_BYTES)
    return len(deleted)


async def _messages(session: AsyncSession, owner: str, conversation_id: str) -> list[MessageRow]:
    """A conversation's messages, oldest first."""
    rows = await session.scalars(select(MessageRow).where(*_of(owner, conversation_id)).order_by(MessageRow.position))
    return list(rows)


def _of(owner: str, conversation_id: str) -> tuple[Any, Any]:
    return MessageRow.owner == owner, MessageRow.conversation_id == conversation_id


def _is(message: MessageRow) -> tuple[Any, Any]:
    return MessageRow.owner == message.owner, MessageRow.id == message.id


def _newest_first(owner: str) -> Select[ConversationRow, int]:
    count = (
        select(func.count())
        .where(MessageRow.owner == ConversationRow.owner, MessageRow.conversation_id == ConversationRow.id)
        .scalar_subquery()
    )
    statement = select(ConversationRow, count).where(ConversationRow.owner == owner)
    return statement.order_by(ConversationRow.updated_at.desc(), ConversationRow.id.desc())


async def _title(session: AsyncSession, owner: str, messages: Sequence[NewMessage]) -> str:
    """The title from the first user message, unlike all of the owner's others; empty where there is no message."""
    text = next((message.content for message in messages if message.role == "user"), "")
    plain = [title_of(text), title_of(text, ends=True)]
    taken = await _taken(session, owner, plain)
    title = next((title for title in plain if title not in taken), plain[0])
    if not title or title not in taken:
        return title
    numbered = [f"{title} ({n})" for n in range(2, MAX_NUMBER)]
    taken = await _taken(session, owner, numbered)
    return next((title for title in numbered if title not in taken), title)


async def _taken(session: AsyncSession, owner: str, titles: Sequence[str]) -> set[str]:
    """Those of the titles that conversations of the owner have."""
    having = select(ConversationRow.title).where(ConversationRow.owner == owner, ConversationRow.title.in_(titles))
    return set(await session.scalars(having))


def title_of(text: str, *, ends: bool = False) -> str:
    """The first words of a text, on one line; with `ends`, fewer of them and its last words."""
    words = " ".join(text.split())
    if len(words) <= TITLE_CHARS:
        return words
    if not ends:
        return words[:TITLE_CHARS].rsplit(" ", 1)[0] + "…"
    half = TITLE_CHARS // 2
    return f"{words[:half].rsplit(' ', 1)[0]} … {words[-half:].split(' ', 1)[-1]}"
