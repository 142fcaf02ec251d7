"""Storage quotas: the bytes that an owner has stored, counted in the transaction that changes them, and their limit.

Text counts as UTF-8, and each row a constant amount. Indexes and free space of pages do not count.
"""

import json
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import BigInteger

from serve.storage.tables import (
    ConversationRow,
    DocumentRow,
    MessageRow,
    ShadowPairRow,
    ShareRow,
    StoredBytesRow,
    VoteRow,
)

ROW_BYTES = 256  # of a message, a document, a share, a pair or a vote: ids, dates and their indexes
CONVERSATION_BYTES = 512  # with its title, whose length is bounded


class QuotaExceeded(Exception):
    """The new data does not fit into the owner's quota; nothing of it is stored."""

    def __init__(self, would_be: int, limit: int) -> None:
        super().__init__(f"{would_be} of {limit} bytes")
        self.would_be, self.limit = would_be, limit


class _octets(FunctionElement[int]):
    """The bytes of a text or JSON column in UTF-8."""

    type = BigInteger()
    inherit_cache = True


@compiles(_octets)
def _(element: _octets, compiler: SQLCompiler, **options: Any) -> str:
    return f"octet_length(CAST({compiler.process(element.clauses, **options)} AS TEXT))"


@compiles(_octets, "sqlite")
def _(element: _octets, compiler: SQLCompiler, **options: Any) -> str:  # `octet_length` is newer than SQLite 3.43
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"


def _size(columns: Sequence[InstrumentedAttribute[Any]]) -> ColumnElement[int]:
    return reduce(add, (func.coalesce(_octets(column), 0) for column in columns), literal(ROW_BYTES))


MESSAGE_BYTES = _size(
    (
        MessageRow.content,
        MessageRow.sources,
        MessageRow.usage,
        MessageRow.timing,
        MessageRow.tool_calls,
        MessageRow.comment,
        MessageRow.correction,
    )
)
VOTE_BYTES = _size((VoteRow.prompt, VoteRow.a, VoteRow.b))


def message_bytes(content: str, *documents: object) -> int:
    """The bytes of a message before it is stored, as `MESSAGE_BYTES` counts them, without a query."""
    written = len(content.encode()) + 2 * content.count("\x00")  # stored as U+FFFD
    # None is stored as JSON's null.
    return ROW_BYTES + written + sum(len(json.dumps(document)) for document in documents)


async def bytes_of(session: AsyncSession, size: ColumnElement[int], *where: ColumnElement[bool]) -> int:
    """The bytes of some messages (`MESSAGE_BYTES`) or votes (`VOTE_BYTES`)."""
    return int(await session.scalar(select(func.sum(size)).where(*where)) or 0)


async def count(session: AsyncSession, owner: str, change: int, limit: int | None = None) -> None:
    """Add `change` to the owner's stored bytes. Raises QuotaExceeded where an increase exceeds `limit`.

    Call it last in a transaction: on PostgreSQL the owner's other transactions wait from here until its end.
    """
    if not change:
        return
    total = await _add(session, owner, change)
    if limit is not None and change > 0 and total > limit:
        raise QuotaExceeded(total, limit)


async def recount(session: AsyncSession, owner: str) -> None:
    """Count an owner's stored bytes anew, after rows were moved between owners."""
    before = await _add(session, owner, 0)  # locks the owner's count
    conversations = await session.scalar(select(func.count()).where(ConversationRow.owner == owner)) or 0
    total = conversations * CONVERSATION_BYTES
    total += await bytes_of(session, MESSAGE_BYTES, MessageRow.owner == owner)
    total += await bytes_of(session, VOTE_BYTES, VoteRow.owner == owner)
    for table in (DocumentRow, ShareRow, ShadowPairRow):
        total += await session.scalar(select(func.sum(table.stored_bytes)).where(table.owner == owner)) or 0
    await _add(session, owner, total - before)


async def _add(session: AsyncSession, owner: str, change: int) -> int:
    """Change an owner's count; return the new count."""
    changed = update(StoredBytesRow).where(StoredBytesRow.owner == owner)
    changed = changed.values(bytes=StoredBytesRow.bytes + change).returning(StoredBytesRow.bytes)
    changed = changed.execution_options(synchronize_session=False)
    total = await session.scalar(changed)
    if total is None:
        insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
        await session.execute(insert(StoredBytesRow).values(owner=owner, bytes=0).on_conflict_do_nothing())
        total = (await session.scalars(changed)).one()
    return total


async def stored_bytes(session: AsyncSession, owner: str) -> int:
    """The bytes that an owner has stored."""
    return await session.scalar(select(StoredBytesRow.bytes).where(StoredBytesRow.owner == owner)) or 0
