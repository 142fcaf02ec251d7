"""Search of conversations by substring, ignoring case.

Titles and messages are stored in lower case beside the original, so that every database compares them the same way.
SQLite's FTS5 and PostgreSQL's pg_trgm (where it is installed) index the messages' trigrams. A query of one or two
characters, and any query on a PostgreSQL without pg_trgm, scans every message of the owner.
"""

from sqlalchemy import ColumnElement, Select, TextClause, exists, func, literal_column, or_, select, table, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from serve.storage.tables import ConversationRow, MessageRow, folded

TRIGRAM = 3
MAX_TRIGRAMS = 12  # of a long query in the index's query; its matches are compared with the whole query
RARE = 1000  # matches in the index; a query with more is soon found by scanning the newest conversations


async def conversation_has(session: AsyncSession, owner: str, query: str) -> ColumnElement[bool]:
    """The condition on an owner's conversations that the title or a message contains the query."""
    in_title = contains(session, ConversationRow.folded_title, query)
    in_message = contains(session, MessageRow.folded_content, query)
    if await _is_rare(session, query):
        of_owner = MessageRow.owner + "" == owner  # the + keeps SQLite from reading all of the owner's rows
        found = select(MessageRow.conversation_id).where(MessageRow.search_id.in_(_indexed(query)), of_owner)
        return or_(in_title, ConversationRow.id.in_(found.where(in_message)))
    in_conversation = (MessageRow.owner == owner, MessageRow.conversation_id == ConversationRow.id)
    return or_(in_title, exists().where(*in_conversation, in_message))


def contains(session: AsyncSession, column: InstrumentedAttribute[str], query: str) -> ColumnElement[bool]:
    """The condition that a text in lower case contains the query."""
    words = folded(query)
    return func.instr(column, words) > 0 if _on_sqlite(session) else column.contains(words, autoescape=True)


async def _is_rare(session: AsyncSession, query: str) -> bool:
    """Whether SQLite's index has few matches for the query. PostgreSQL's planner decides by itself."""
    if not _on_sqlite(session) or len(folded(query)) < TRIGRAM:
        return False
    some = _indexed(query).limit(RARE + 1).subquery()
    return (await session.scalar(select(func.count()).select_from(some)) or 0) <= RARE


def _indexed(query: str) -> Select[int]:
    """The `search_id`s of messages that contain the query's trigrams (some of a long query's), in any order."""
    matching = select(literal_column("rowid", MessageRow.search_id.type)).select_from(table("folded_trigrams"))
    return matching.where(_match(folded(query)))


def _match(words: str) -> TextClause:
    trigrams = list(dict.fromkeys(words[i : i + TRIGRAM] for i in range(len(words) - TRIGRAM + 1)))
    step = -(-len(trigrams) // MAX_TRIGRAMS)
    quoted = (trigram.replace('"', '""') for trigram in trigrams[::step])
    return text("folded_trigrams MATCH :trigrams").bindparams(trigrams=" AND ".join(f'"{each}"' for each in quoted))


def _on_sqlite(session: AsyncSession) -> bool:
    return session.get_bind().dialect.name == "sqlite"
