"""The tables of conversations, documents, shares, votes, locks and quotas. `owner`: an owner's id; empty: no keys."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Text,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates
from sqlalchemy.types import TypeDecorator


class AnyText(TypeDecorator[str]):
    """Text with any characters. PostgreSQL accepts no NUL; it is stored as U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as every database accepts it."""
        return None if value is None else value.replace("\x00", "\ufffd")


def folded(text: str) -> str:
    """A text in lower case, as searches compare it. A database's own `lower` may know ASCII only."""
    return text.replace("\x00", "\ufffd").lower()


class Base(DeclarativeBase):
    """The base of all tables; constraints have fixed names for the migrations."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ConversationRow(Base):
    """One conversation. Clients choose its id, so it is unique for one owner only."""

    __tablename__ = "conversations"
    __table_args__ = (Index("ix_conversations_recent", "owner", "updated_at"),)

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    id: Mapped[str] = mapped_column(AnyText, primary_key=True)
    title: Mapped[str] = mapped_column(AnyText)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    folded_title: Mapped[str] = mapped_column(AnyText)
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    archived: Mapped[bool] = mapped_column(default=False, server_default=false())
    folder: Mapped[str | None] = mapped_column(AnyText)
    search_sources: Mapped[str | None] = mapped_column(AnyText)  # web, documents, both or off

    @validates("title")
    def _fold(self, _: str, title: str) -> str:
        self.folded_title = folded(title)
        return title


class MessageRow(Base):
    """One message; `parent_id` is the message before it, `position` its number in the conversation.

    `search_id` is its key in SQLite's trigram index: VACUUM would change a rowid.
    """

    __tablename__ = "messages"
    __table_args__ = (
        ForeignKeyConstraint(
            ["owner", "conversation_id"], ["conversations.owner", "conversations.id"], ondelete="CASCADE"
        ),
        Index("ix_messages_conversation", "owner", "conversation_id", "position"),
        Index("ix_messages_search_id", "search_id", unique=True),
    )

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    conversation_id: Mapped[str] = mapped_column(AnyText)
    id: Mapped[str] = mapped_column(AnyText, primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(AnyText)
    position: Mapped[int]
    role: Mapped[str] = mapped_column(AnyText)
    content: Mapped[str] = mapped_column(AnyText)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    model: Mapped[str | None] = mapped_column(AnyText)
    finish_reason: Mapped[str | None] = mapped_column(AnyText)
    sources: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    usage: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    timing: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    tool_calls: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)  # in OpenAI's form
    tool_call_id: Mapped[str | None] = mapped_column(AnyText)  # of a tool's message
    rating: Mapped[int | None]
    comment: Mapped[str | None] = mapped_column(AnyText)
    correction: Mapped[str | None] = mapped_column(AnyText)
    judged_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))  # rated, commented on or corrected
    folded_content: Mapped[str] = mapped_column(AnyText, deferred=True)
    search_id: Mapped[int | None] = mapped_column(BigInteger, deferred=True)

    @validates("content")
    def _fold(self, _: str, content: str) -> str:
        self.folded_content = folded(content)
        return content


class DocumentRow(Base):
    """A document of an owner: of one conversation, or of the library (`conversation_id` is None).

    `passages` has (title, text) of each passage, `size` counts the content's bytes, `stored_bytes` those of the quota.
    """

    __tablename__ = "documents"
    __table_args__ = (Index("ix_documents_recent", "owner", "created_at"),)

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    id: Mapped[str] = mapped_column(AnyText, primary_key=True)
    conversation_id: Mapped[str | None] = mapped_column(AnyText)
    name: Mapped[str] = mapped_column(AnyText)
    media_type: Mapped[str] = mapped_column(AnyText)
    purpose: Mapped[str] = mapped_column(AnyText)
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    passages: Mapped[list[tuple[str, str]]] = mapped_column(JSON, deferred=True)
    size: Mapped[int] = mapped_column(BigInteger)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ShareRow(Base):
    """A copy of a conversation's shown messages, for whoever has its id until it expires."""

    __tablename__ = "shares"
    __table_args__ = (Index("ix_shares_owner", "owner", "created_at"),)

    id: Mapped[str] = mapped_column(AnyText, primary_key=True)
    owner: Mapped[str] = mapped_column(AnyText)
    conversation_id: Mapped[str] = mapped_column(AnyText)
    title: Mapped[str] = mapped_column(AnyText)
    messages: Mapped[list[dict[str, Any]]] = mapped_column(JSON, deferred=True)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class VoteRow(Base):
    """A vote for one of two answers to a prompt; each side has model, checkpoint, settings and content."""

    __tablename__ = "votes"
    __table_args__ = (Index("ix_votes_recent", "owner", "created_at"),)

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    id: Mapped[str] = mapped_column(AnyText, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    prompt: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    a: Mapped[dict[str, Any]] = mapped_column(JSON)
    b: Mapped[dict[str, Any]] = mapped_column(JSON)
    choice: Mapped[str] = mapped_column(AnyText)
    conversation_id: Mapped[str | None] = mapped_column(AnyText)  # of a vote on a shadow pair


class ShadowPairRow(Base):
    """Two answers to a conversation's question, of the served model and of the shadow, until its owner has voted.

    `a` and `b` are in random order, each with model, checkpoint, settings and content, as in a vote, and the checksum
    of the weights as `crc32`, which the vote keeps.
    """

    __tablename__ = "shadow_pairs"
    __table_args__ = (Index("ix_shadow_pairs_recent", "owner", "created_at"),)

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    id: Mapped[str] = mapped_column(AnyText, primary_key=True)
    conversation_id: Mapped[str] = mapped_column(AnyText)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    prompt: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    a: Mapped[dict[str, Any]] = mapped_column(JSON)
    b: Mapped[dict[str, Any]] = mapped_column(JSON)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)


class SessionLockRow(Base):
    """The lock of a conversation; `expires_at` in seconds since the epoch, `token` identifies one answer."""

    __tablename__ = "session_locks"

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    session_id: Mapped[str] = mapped_column(AnyText, primary_key=True)
    process: Mapped[str] = mapped_column(AnyText)
    token: Mapped[str] = mapped_column(AnyText)
    expires_at: Mapped[float] = mapped_column(Float(53))


class StoredBytesRow(Base):
    """The bytes that an owner has stored."""

    __tablename__ = "stored_bytes"

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)


class TrainingConsentRow(Base):
    """Whether an owner lets training use what they write; without a row they do not."""

    __tablename__ = "training_consents"

    owner: Mapped[str] = mapped_column(AnyText, primary_key=True)
    given: Mapped[bool]
    changed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
