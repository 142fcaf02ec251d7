"""Which of two answers is better: votes of the side by side, kept as preference data."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from serve.api.auth import CallerDep
from serve.api.conversations import missing, stored
from serve.api.datasets import attachment, lines_of
from serve.api.schemas.feedback import (
    Candidate,
    CheckpointNote,
    Contender,
    DeletedVote,
    ExampleTurn,
    Preference,
    Vote,
    VotedAnswer,
    VotePage,
    VoteRequest,
)
from serve.api.service import Service, ServiceDep
from serve.api.training_data import corrections_of
from serve.middleware.content_type import TypedRoute
from serve.storage import votes
from serve.storage.import_export import ConversationWithMessages, export_batches
from serve.storage.tables import VoteRow

router = APIRouter(prefix="/v1", tags=["votes"], route_class=TypedRoute)
PAGE = 100


@router.post("/votes")
async def vote(body: VoteRequest, service: ServiceDep, caller: CallerDep) -> Vote:
    """Say which of two answers to one prompt is better. Both sides name served models, whose checkpoints are noted."""
    row = VoteRow(
        owner=caller.owner,
        id=f"vote-{secrets.token_hex(12)}",
        created_at=datetime.now(UTC),
        prompt=[{"role": turn.role, "content": turn.content} for turn in body.prompt],
        a=_noted(service, body.a),
        b=_noted(service, body.b),
        choice=body.choice,
    )
    with stored():
        await votes.add_vote(service.store, row)
    return _vote(row)


@router.get("/votes")
async def list_votes(
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before.")] = None,
) -> VotePage:
    """The caller's votes, newest first."""
    with stored():
        rows, more = await votes.votes(service.store, caller.owner, limit=limit, after=after)
    return VotePage(data=[_vote(row) for row in rows], has_more=more)


@router.delete("/votes/{vote_id}")
async def delete_vote(
    vote_id: Annotated[str, Path(max_length=64)], service: ServiceDep, caller: CallerDep
) -> DeletedVote:
    """Take a vote back."""
    with stored():
        known = await votes.delete_vote(service.store, caller.owner, vote_id)
    if not known:
        raise missing("vote")
    return DeletedVote(id=vote_id)


@router.get("/preferences.jsonl", response_class=StreamingResponse, responses={200: lines_of("Preference")})
async def export_preferences(service: ServiceDep, caller: CallerDep) -> StreamingResponse:
    """Preference data, one Preference a line: every vote that is no tie, and every corrected answer."""
    with stored():
        await votes.votes(service.store, caller.owner, limit=1, after=None)  # fails before the answer begins
    return attachment(service, "preferences", _lines(service, caller))


async def _lines(service: Service, caller: CallerDep) -> AsyncIterator[str]:
    after, more = None, True
    while more:
        rows, more = await votes.votes(service.store, caller.owner, limit=PAGE, after=after)
        for row in rows:
            after = row.id
            if row.choice != "tie":
                yield _preference(_vote(row)).model_dump_json() + "\n"
    async for batch in export_batches(service.store, caller.owner):
        if lines := await asyncio.to_thread(_corrections, batch):
            yield lines


def _corrections(batch: Sequence[ConversationWithMessages]) -> str:
    preferences = (preference for _, messages in batch for preference in corrections_of(messages))
    return "".join(preference.model_dump_json() + "\n" for preference in preferences)


def _noted(service: Service, side: Candidate) -> dict[str, Any]:
    metadata = service.model(side.model).metadata
    note = CheckpointNote(created_at=metadata.created_at, steps=metadata.steps, base=metadata.base, data=metadata.data)
    answer = VotedAnswer(model=side.model, checkpoint=note, settings=side.settings, content=side.content)
    return answer.model_dump(mode="json")


def _vote(row: VoteRow) -> Vote:
    fields = ("id", "created_at", "prompt", "a", "b", "choice")
    return Vote.model_validate({name: getattr(row, name) for name in fields})


def _preference(vote: Vote) -> Preference:
    better, worse = (vote.a, vote.b) if vote.choice == "a" else (vote.b, vote.a)
    prompt = [ExampleTurn(role=turn.role, content=turn.content) for turn in vote.prompt]
    chosen = ExampleTurn(role="assistant", content=better.content)
    return Preference(
        origin="vote",
        id=vote.id,
        created_at=vote.created_at,
        prompt=prompt,
        chosen=[chosen],
        rejected=[ExampleTurn(role="assistant", content=worse.content)],
        messages=[*prompt, chosen],
        chosen_by=_contender(better),
        rejected_by=_contender(worse),
    )


def _contender(answer: VotedAnswer) -> Contender:
    return Contender(model=answer.model, checkpoint=answer.checkpoint, settings=answer.settings)
