"""Owners' documents in the database of conversations: their files, and the passages that searches find in them."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from serve.storage import quota
from serve.storage.database import Database
from serve.storage.store import Store
from serve.storage.tables import DocumentRow


class TooManyDocuments(Exception):
    """The owner has as many documents, or as many bytes of them, as they may have; nothing is stored."""


async def add_document(store: Store, document: DocumentRow, *, max_count: int, max_bytes: int) -> None:
    """Store a document. Raises TooManyDocuments and QuotaExceeded."""
    passages = json.dumps(document.passages)
    document.size = len(document.content)
    document.stored_bytes = quota.ROW_BYTES + document.size + len(passages.encode())
    async with store.session() as session:
        own = select(func.count(), func.coalesce(func.sum(DocumentRow.size), 0))
        count, size = (await session.execute(own.where(DocumentRow.owner == document.owner))).one()
        if count >= max_count:
            raise TooManyDocuments(f"{max_count} documents")
        if size + document.size > max_bytes:
            raise TooManyDocuments(f"{max_bytes} bytes of documents")
        session.add(document)
        await session.flush()
        await quota.count(session, document.owner, document.stored_bytes, store.max_bytes)


async def documents(
    database: Database, owner: str, *, limit: int, after: str | None, conversation_id: str | None
) -> tuple[list[DocumentRow], bool]:
    """An owner's documents without their contents, newest first, and whether there are more.

    `after` is the last id of the page before. `conversation_id` chooses those of one conversation, an empty one those
    of the library, None all.
    """
    async with database.reading() as session:
        statement = select(DocumentRow).where(DocumentRow.owner == owner)
        if conversation_id is not None:
            statement = statement.where(
                DocumentRow.conversation_id == conversation_id
                if conversation_id
                else DocumentRow.conversation_id.is_(None)
            )
        if after is not None:
            last = await session.get(DocumentRow, (owner, after))
            if last is None:
                return [], False
            earlier = DocumentRow.created_at < last.created_at
            statement = statement.where(
                or_(earlier, (DocumentRow.created_at == last.created_at) & (DocumentRow.id < last.id))
            )
        newest_first = statement.order_by(DocumentRow.created_at.desc(), DocumentRow.id.desc())
        rows = list(await session.scalars(newest_first.limit(limit + 1)))
        return rows[:limit], len(rows) > limit


async def searchable(database: Database, owner: str, conversation_id: str | None) -> list[DocumentRow]:
    """The documents that an answer may draw on, without their contents: the library's and the conversation's."""
    async with database.reading() as session:
        within = DocumentRow.conversation_id.is_(None)
        if conversation_id is not None:
            within = or_(within, DocumentRow.conversation_id == conversation_id)
        rows = await session.scalars(
            select(DocumentRow).where(DocumentRow.owner == owner, within).order_by(DocumentRow.created_at)
        )
        return list(rows)


async def passages(database: Database, owner: str, ids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """The passages, (title, text), of some of an owner's documents by their ids."""
    async with database.reading() as session:
        chosen = select(DocumentRow.id, DocumentRow.passages).where(
            DocumentRow.owner == owner, DocumentRow.id.in_(list(ids))
        )
        return {row[0]: [(title, text) for title, text in row[1]] for row in await session.execute(chosen)}


async def document(database: Database, owner: str, document_id: str, *, whole: bool = False) -> DocumentRow | None:
    """One document, with `whole` its content and passages too; None where the owner has none of that id."""
    async with database.reading() as session:
        more: Any = (undefer(DocumentRow.content), undefer(DocumentRow.passages)) if whole else ()
        return await session.get(DocumentRow, (owner, document_id), options=more)


async def delete_document(database: Database, owner: str, document_id: str) -> bool:
    """Delete a document; False where there is none of that id."""

    async def work(session: AsyncSession) -> bool:
        row = await session.get(DocumentRow, (owner, document_id))
        if row is None:
            return False
        freed = row.stored_bytes
        await session.delete(row)
        await session.flush()
        await quota.count(session, owner, -freed)
        return True

    return await database.deleting(work)
