"""Deletes all judgements of an owner; the conversations stay."""

from typing import Any, cast

from sqlalchemy import CursorResult, delete, or_, update
from sqlalchemy.ext.asyncio import AsyncSession

from serve.storage.database import Database
from serve.storage.quota import recount
from serve.storage.tables import MessageRow, ShadowPairRow, VoteRow


async def delete_judgements(database: Database, owner: str) -> tuple[int, int]:
    """Delete an owner's ratings, comments, corrections and votes; return how many answers and votes they were of."""

    async def work(session: AsyncSession) -> tuple[int, int]:
        judged = or_(MessageRow.rating.is_not(None), MessageRow.correction.is_not(None))
        nothing = {"rating": None, "comment": None, "correction": None, "judged_at": None}
        changed = await session.execute(update(MessageRow).where(MessageRow.owner == owner, judged).values(**nothing))
        deleted = await session.execute(delete(VoteRow).where(VoteRow.owner == owner))
        await session.execute(delete(ShadowPairRow).where(ShadowPairRow.owner == owner))
        await session.flush()
        await recount(session, owner)
        return cast("CursorResult[Any]", changed).rowcount, cast("CursorResult[Any]", deleted).rowcount

    return await database.deleting(work)
