"""Owners' consent to training on their conversations and judgements: none until it is given, and revocable."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, select

from serve.storage import quota
from serve.storage.database import Database
from serve.storage.tables import ShadowPairRow, TrainingConsentRow


@dataclass(frozen=True, slots=True)
class Consent:
    """What an owner decided, and when."""

    given: bool
    changed_at: datetime


async def read_consent(database: Database, owner: str) -> Consent | None:
    """What an owner has decided; None: nothing yet."""
    async with database.reading() as session:
        row = await session.get(TrainingConsentRow, owner)
        return None if row is None else Consent(row.given, row.changed_at)


async def read_consents(database: Database) -> dict[str, Consent]:
    """The decisions of all owners who made one."""
    async with database.reading() as session:
        rows = await session.scalars(select(TrainingConsentRow))
        return {row.owner: Consent(row.given, row.changed_at) for row in rows}


async def set_consent(database: Database, owner: str, *, given: bool) -> Consent:
    """Record what an owner decides now. What waits for their judgement is deleted when they withdraw."""
    consent = Consent(given, datetime.now(UTC))
    async with database.session() as session:
        await session.merge(TrainingConsentRow(owner=owner, given=given, changed_at=consent.changed_at))
        if not given:
            pairs = delete(ShadowPairRow).where(ShadowPairRow.owner == owner)
            freed = sum(await session.scalars(pairs.returning(ShadowPairRow.stored_bytes)))
            await quota.count(session, owner, -freed)
    return consent
