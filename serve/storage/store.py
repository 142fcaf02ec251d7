"""Conversations on disk: what is asked of them, in whatever database.

It knows messages and who owns them, and nothing of HTTP or models.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, delete, exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage.database import Database, StoreUnavailable
from serve.storage.tables import ConversationRow, MessageRow, VoteRow

DELETED_AT_ONCE = 100  # conversations in one transaction, whose journal must fit on a full disk


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored."""

    role: str
    content: str
    id: str
    model: str | None = None
    finish_reason: str | None = None
    sources: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    timing: dict[str, Any] | None = None


def new_message_id() -> str:
    """An id for a message that did not bring one."""
    return f"msg-{secrets.token_hex(12)}"


class Store(Database):
    """The conversations of all owners, in a database."""

    async def append(
        self, owner: str, conversation_id: str, messages: Sequence[NewMessage], parent_id: str | None
    ) -> None:
        """Store messages one after another behind `parent_id`; the conversation begins with its first message."""
        now = datetime.now(UTC)
        async with self.session() as session:
            conversation = await session.get(ConversationRow, (owner, conversation_id))
            if conversation is None:
                conversation = ConversationRow(
                    owner=owner, id=conversation_id, title=_title(messages), created_at=now, updated_at=now
                )
                session.add(conversation)
                await session.flush()
            conversation.updated_at = now
            if not conversation.title:
                conversation.title = _title(messages)
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
                    )
                )
                parent_id = message.id

    async def messages(self, owner: str, conversation_id: str) -> list[MessageRow]:
        """All messages of a conversation in the order of their arrival; none when there is no such conversation."""
        async with self.reading() as session:
            rows = await session.scalars(
                select(MessageRow).where(*_of(owner, conversation_id)).order_by(MessageRow.position)
            )
            return list(rows)

    async def conversation(self, owner: str, conversation_id: str) -> tuple[ConversationRow, list[MessageRow]] | None:
        """A conversation with its messages; None when the owner has none of that id."""
        async with self.reading() as session:
            conversation = await session.get(ConversationRow, (owner, conversation_id))
            if conversation is None:
                return None
            rows = await session.scalars(
                select(MessageRow).where(*_of(owner, conversation_id)).order_by(MessageRow.position)
            )
            return conversation, list(rows)

    async def page(
        self, owner: str, *, limit: int, after: str | None, query: str | None
    ) -> tuple[list[tuple[ConversationRow, int]], bool]:
        """Conversations with their message counts, newest first, and whether there are more.

        `after` is the last id of the page before; `query` is looked for in titles and messages, in any case of
        letters that the database knows of.
        """
        async with self.reading() as session:
            statement = _newest_first(owner, query)
            if after is not None:
                last = await session.get(ConversationRow, (owner, after))
                if last is None:
                    return [], False
                statement = statement.where(
                    or_(
                        ConversationRow.updated_at < last.updated_at,
                        and_(ConversationRow.updated_at == last.updated_at, ConversationRow.id < last.id),
                    )
                )
            rows = (await session.execute(statement.limit(limit + 1))).all()
            return [(row[0], row[1]) for row in rows[:limit]], len(rows) > limit

    async def found(self, owner: str, conversation_ids: Sequence[str], query: str) -> dict[str, MessageRow]:
        """The newest message of each of these conversations that has the words in it, by the conversation's id."""
        newest = (
            select(MessageRow.conversation_id, func.max(MessageRow.position).label("position"))
            .where(
                MessageRow.owner == owner,
                MessageRow.conversation_id.in_(conversation_ids),
                MessageRow.role != "system",
                MessageRow.content.icontains(query, autoescape=True),
            )
            .group_by(MessageRow.conversation_id)
            .subquery()
        )
        same = and_(MessageRow.conversation_id == newest.c.conversation_id, MessageRow.position == newest.c.position)
        async with self.reading() as session:
            rows = await session.scalars(select(MessageRow).join(newest, same).where(MessageRow.owner == owner))
            return {row.conversation_id: row for row in rows}

    async def restore(self, conversation: ConversationRow, messages: Sequence[MessageRow]) -> bool:
        """Store a whole conversation as it was; False when the owner has one of that id, or any of its messages."""
        try:
            return await self._restore(conversation, messages)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, IntegrityError):  # it came in by another request meanwhile
                return False
            raise

    async def _restore(self, conversation: ConversationRow, messages: Sequence[MessageRow]) -> bool:
        async with self.session() as session:
            if await session.get(ConversationRow, (conversation.owner, conversation.id)) is not None:
                return False
            ids = [message.id for message in messages]
            known = select(func.count()).where(MessageRow.owner == conversation.owner, MessageRow.id.in_(ids))
            if await session.scalar(known):
                return False
            session.add(conversation)
            await session.flush()
            session.add_all(messages)
            return True

    async def rename(self, owner: str, conversation_id: str, title: str) -> bool:
        """Give a conversation another title; False when there is none of that id."""
        async with self.session() as session:
            conversation = await session.get(ConversationRow, (owner, conversation_id))
            if conversation is None:
                return False
            conversation.title = title
            return True

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """Delete a conversation and its messages; False when there is none of that id."""

        async def work(session: AsyncSession) -> bool:
            conversation = await session.get(ConversationRow, (owner, conversation_id))
            if conversation is None:
                return False
            await session.execute(delete(MessageRow).where(*_of(owner, conversation_id)))
            await session.delete(conversation)
            return True

        return await self.deleting(work)

    async def delete_all(self, owner: str) -> int:
        """Delete all of an owner's conversations; return how many there were."""
        count = 0
        while ids := await self._some_of(owner):
            count += await self.deleting(lambda session, ids=ids: _delete_conversations(session, owner, ids))
        return count

    async def _some_of(self, owner: str) -> Sequence[str]:
        async with self.reading() as session:
            ids = select(ConversationRow.id).where(ConversationRow.owner == owner).limit(DELETED_AT_ONCE)
            return (await session.scalars(ids)).all()

    async def delete_message(self, owner: str, conversation_id: str, message_id: str) -> bool:
        """Delete one message, and let what follows it follow its parent; False when there is no such message."""

        async def work(session: AsyncSession) -> bool:
            message = await session.get(MessageRow, (owner, message_id))
            if message is None or message.conversation_id != conversation_id:
                return False
            following = (*_of(owner, conversation_id), MessageRow.parent_id == message_id)
            await session.execute(update(MessageRow).where(*following).values(parent_id=message.parent_id))
            await session.delete(message)
            return True

        return await self.deleting(work)

    async def rate(
        self,
        owner: str,
        conversation_id: str,
        message_id: str,
        rating: int,
        comment: str | None,
        correction: str | None,
    ) -> bool:
        """Keep what a reader thinks of an answer; False when there is no such answer."""
        async with self.session() as session:
            message = await session.get(MessageRow, (owner, message_id))
            if message is None or message.role != "assistant":
                return False
            if message.conversation_id != conversation_id:
                return False
            message.rating, message.comment, message.correction = rating, comment, correction
            return True

    async def forget(self, days: int) -> None:
        """Delete the conversations that nobody has touched for so many days, and votes as old."""
        async with self.session() as session:
            old = ConversationRow.updated_at < datetime.now(UTC) - timedelta(days=days)
            of_old = and_(
                ConversationRow.owner == MessageRow.owner, ConversationRow.id == MessageRow.conversation_id, old
            )
            await session.execute(delete(MessageRow).where(exists().where(of_old)))
            await session.execute(delete(ConversationRow).where(old))
            aged = VoteRow.created_at < datetime.now(UTC) - timedelta(days=days)
            await session.execute(delete(VoteRow).where(aged))


async def _delete_conversations(session: AsyncSession, owner: str, ids: Sequence[str]) -> int:
    """Delete conversations and their messages; return how many there were."""
    messages = (MessageRow.owner == owner, MessageRow.conversation_id.in_(ids))
    await session.execute(delete(MessageRow).where(*messages))
    own = (ConversationRow.owner == owner, ConversationRow.id.in_(ids))
    gone = await session.scalars(delete(ConversationRow).where(*own).returning(ConversationRow.id))
    return len(gone.all())


def _of(owner: str, conversation_id: str) -> tuple[Any, Any]:
    return MessageRow.owner == owner, MessageRow.conversation_id == conversation_id


def _newest_first(owner: str, query: str | None) -> Select[ConversationRow, int]:
    count = (
        select(func.count())
        .where(MessageRow.owner == ConversationRow.owner, MessageRow.conversation_id == ConversationRow.id)
        .scalar_subquery()
    )
    statement = select(ConversationRow, count).where(ConversationRow.owner == owner)
    if query:
        said = exists().where(
            MessageRow.owner == ConversationRow.owner,
            MessageRow.conversation_id == ConversationRow.id,
            MessageRow.content.icontains(query, autoescape=True),
        )
        statement = statement.where(or_(ConversationRow.title.icontains(query, autoescape=True), said))
    return statement.order_by(ConversationRow.updated_at.desc(), ConversationRow.id.desc())


def _title(messages: Sequence[NewMessage]) -> str:
    """What a user said first makes the title; empty while nobody has said anything."""
    return title_of(next((message.content for message in messages if message.role == "user"), ""))


def title_of(text: str) -> str:
    """The first words of a text, on one line."""
    words = " ".join(text.split())
    return words if len(words) <= 60 else words[:60].rsplit(" ", 1)[0] + "…"
