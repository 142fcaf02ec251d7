"""An owner's judgements in the database, newest first: judged answers and votes in one list."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage.database import Database
from serve.storage.tables import MessageRow, VoteRow

IDS_PER_STATEMENT = 500
_IS_JUDGED = or_(MessageRow.rating.is_not(None), MessageRow.correction.is_not(None))
_JUDGED_AT: ColumnElement[Any] = func.coalesce(MessageRow.judged_at, MessageRow.created_at)


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged answer with its question, or a vote."""

    at: datetime
    row: MessageRow | VoteRow
    question: str

    @property
    def id(self) -> str:
        """Of the answer or of the vote."""
        return self.row.id


async def judged(database: Database, owner: str, *, limit: int, after: str | None) -> tuple[list[Judged], bool]:
    """An owner's judgements, and whether there are more; `after` is the last id of the page before."""
    async with database.reading() as session:
        answers = select(MessageRow, _JUDGED_AT).where(MessageRow.owner == owner, _IS_JUDGED)
        votes = select(VoteRow).where(VoteRow.owner == owner)
        if after is not None:
            last = await _time_of(session, owner, after)
            if last is None:
                return [], False
            answers = answers.where(_before(_JUDGED_AT, MessageRow.id, last, after))
            votes = votes.where(_before(VoteRow.created_at, VoteRow.id, last, after))
        answers = answers.order_by(_JUDGED_AT.desc(), MessageRow.id.desc()).limit(limit + 1)
        votes = votes.order_by(VoteRow.created_at.desc(), VoteRow.id.desc()).limit(limit + 1)
        rows = [row for row, _ in await session.execute(answers)]
        questions = await _questions(session, owner, rows)
        found = [
            Judged(_utc(row.judged_at or row.created_at), row, questions.get(row.parent_id or "", "")) for row in rows
        ]
        found += [Judged(_utc(row.created_at), row, _asked(row)) for row in await session.scalars(votes)]
    found.sort(key=lambda one: (one.at, one.id), reverse=True)
    return found[:limit], len(found) > limit


async def still_judged(database: Database, owner: str, ids: Collection[str]) -> dict[str, datetime]:
    """When those of the ids were judged that are judgements of the owner now."""
    listed, found = list(ids), dict[str, datetime]()
    async with database.reading() as session:
        for start in range(0, len(listed), IDS_PER_STATEMENT):
            some = listed[start : start + IDS_PER_STATEMENT]
            answers = select(MessageRow.id, MessageRow.judged_at, MessageRow.created_at).where(
                MessageRow.owner == owner, MessageRow.id.in_(some), _IS_JUDGED
            )
            votes = select(VoteRow.id, VoteRow.created_at).where(VoteRow.owner == owner, VoteRow.id.in_(some))
            found |= {id: _utc(judged_at or created) for id, judged_at, created in await session.execute(answers)}
            found |= {id: _utc(created) for id, created in await session.execute(votes)}
    return found


def _before(
    column: ColumnElement[Any] | Any, id_column: ColumnElement[Any] | Any, last: datetime, id: str
) -> ColumnElement[bool]:
    return or_(column < last, and_(column == last, id_column < id))


async def _time_of(session: AsyncSession, owner: str, id: str) -> datetime | None:
    message = await session.get(MessageRow, (owner, id))
    if message is not None:
        return message.judged_at or message.created_at
    vote = await session.get(VoteRow, (owner, id))
    return None if vote is None else vote.created_at


async def _questions(session: AsyncSession, owner: str, answers: Collection[MessageRow]) -> dict[str, str]:
    """The contents of the messages that were answered, by id."""
    ids = {answer.parent_id for answer in answers if answer.parent_id}
    asked = select(MessageRow.id, MessageRow.content).where(MessageRow.owner == owner, MessageRow.id.in_(ids))
    return {row.id: row.content for row in await session.execute(asked)}


def _asked(vote: VoteRow) -> str:
    return next((str(turn["content"]) for turn in reversed(vote.prompt) if turn["role"] == "user"), "")


def _utc(moment: datetime) -> datetime:
    """SQLite gives times without their zone, which is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
