"""Which conversations and messages have some words in them, in any case of letters: substrings, as one types them.

Titles and messages are kept in lower case beside what was written, so that every database compares the same without a
step into Python. SQLite's FTS5 and PostgreSQL's pg_trgm (where it is there) index the messages' trigrams. Words of one
or two characters, and all on a PostgreSQL without pg_trgm, are looked for in every message of the owner.
"""

from sqlalchemy import ColumnElement, Select, TextClause, exists, func, literal_column, or_, select, table, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from serve.storage.tables import ConversationRow, MessageRow, folded

TRIGRAM = 3
TRIGRAMS_AT_MOST = 12  # that a long query is narrowed down by; what they let through is compared as a whole
FEW = 1000  # messages in which the index finds a query; where there are more, the newest conversations soon have it


async def conversation_has(session: AsyncSession, owner: str, query: str) -> ColumnElement[bool]:
    """The condition on an owner's conversations that their title or a message has the query in it."""
    in_title = contains(session, ConversationRow.folded_title, query)
    in_message = contains(session, MessageRow.folded_content, query)
    if await _is_rare(session, query):
        of_owner = MessageRow.owner + "" == owner  # else SQLite reads all of the owner's instead of those found
        found = select(MessageRow.conversation_id).where(MessageRow.search_id.in_(_indexed(query)), of_owner)
        return or_(in_title, ConversationRow.id.in_(found.where(in_message)))
    in_conversation = (MessageRow.owner == owner, MessageRow.conversation_id == ConversationRow.id)
    return or_(in_title, exists().where(*in_conversation, in_message))


def contains(session: AsyncSession, column: InstrumentedAttribute[str], query: str) -> ColumnElement[bool]:
    """The condition that a text in lower case has the query in it."""
    words = folded(query)
    return func.instr(column, words) > 0 if _on_sqlite(session) else column.contains(words, autoescape=True)


async def _is_rare(session: AsyncSession, query: str) -> bool:
    """Whether SQLite's index knows the query, and only a few messages that may have it; PostgreSQL plans by itself."""
    if not _on_sqlite(session) or len(folded(query)) < TRIGRAM:
        return False
    some = _indexed(query).limit(FEW + 1).subquery()
    return (await session.scalar(select(func.count()).select_from(some)) or 0) <= FEW


def _indexed(query: str) -> Select[int]:
    """The `search_id`s of the messages that have a query's trigrams, or some of a long one's, in whatever order."""
    matching = select(literal_column("rowid", MessageRow.search_id.type)).select_from(table("folded_trigrams"))
    return matching.where(_match(folded(query)))


def _match(words: str) -> TextClause:
    trigrams = list(dict.fromkeys(words[i : i + TRIGRAM] for i in range(len(words) - TRIGRAM + 1)))
    step = -(-len(trigrams) // TRIGRAMS_AT_MOST)
    quoted = (trigram.replace('"', '""') for trigram in trigrams[::step])
    return text("folded_trigrams MATCH :trigrams").bindparams(trigrams=" AND ".join(f'"{each}"' for each in quoted))


def _on_sqlite(session: AsyncSession) -> bool:
    return session.get_bind().dialect.name == "sqlite"
