"""Readers' feedback: ratings of stored answers, and votes on which of two answers to a prompt is better."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from serve.api.auth import CallerDep
from serve.api.errors import not_found, store_errors
from serve.api.schemas.conversation_requests import FeedbackRequest
from serve.api.schemas.conversations import Feedback
from serve.api.schemas.feedback import (
    Candidate,
    CheckpointNote,
    DeletedFeedback,
    DeletedVote,
    Vote,
    VotedAnswer,
    VotePage,
    VoteRequest,
)
from serve.api.service import Service, ServiceDep
from serve.middleware.cors import TypedRoute
from serve.storage import votes
from serve.storage.tables import VoteRow

router = APIRouter(prefix="/v1", route_class=TypedRoute)
Id = Annotated[str, Path(max_length=64)]


@router.put("/conversations/{conversation_id}/messages/{message_id}/feedback", tags=["conversations"])
async def rate_message(
    conversation_id: Id, message_id: Id, body: FeedbackRequest, service: ServiceDep, caller: CallerDep
) -> Feedback:
    """Rate an answer. A second rating replaces the first."""
    with store_errors():
        known = await service.store.rate(
            caller.owner, conversation_id, message_id, body.rating, body.comment, body.correction
        )
    if not known:
        raise not_found("answer")
    return Feedback(rating=body.rating, comment=body.comment, correction=body.correction)


@router.delete("/conversations/{conversation_id}/messages/{message_id}/feedback", tags=["conversations"])
async def withdraw_feedback(
    conversation_id: Id, message_id: Id, service: ServiceDep, caller: CallerDep
) -> DeletedFeedback:
    """Withdraw the rating, comment and correction of an answer: the next training does not use them."""
    with store_errors():
        known = await service.store.rate(caller.owner, conversation_id, message_id, None, None, None)
    if not known:
        raise not_found("answer")
    return DeletedFeedback(id=message_id)


@router.post("/votes", tags=["votes"])
async def vote(body: VoteRequest, service: ServiceDep, caller: CallerDep) -> Vote:
    """Vote for the better of two answers to one prompt. Both name served models, whose checkpoints are recorded."""
    row = VoteRow(
        owner=caller.owner,
        id=f"vote-{secrets.token_hex(12)}",
        created_at=datetime.now(UTC),
        prompt=[{"role": turn.role, "content": turn.content} for turn in body.prompt],
        a=_voted_answer(service, body.a),
        b=_voted_answer(service, body.b),
        choice=body.choice,
    )
    with store_errors():
        await votes.add_vote(service.store, row)
    return as_vote(row)


@router.get("/votes", tags=["votes"])
async def list_votes(
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before.")] = None,
) -> VotePage:
    """The caller's votes, newest first."""
    with store_errors():
        rows, more = await votes.votes(service.store, caller.owner, limit=limit, after=after)
    return VotePage(data=[as_vote(row) for row in rows], has_more=more)


@router.delete("/votes/{vote_id}", tags=["votes"])
async def delete_vote(vote_id: Id, service: ServiceDep, caller: CallerDep) -> DeletedVote:
    """Delete a vote."""
    with store_errors():
        known = await votes.delete_vote(service.store, caller.owner, vote_id)
    if not known:
        raise not_found("vote")
    return DeletedVote(id=vote_id)


def as_vote(row: VoteRow) -> Vote:
    """The API's form of a stored vote."""
    return Vote.model_validate({name: getattr(row, name) for name in Vote.model_fields if name != "object"})


def _voted_answer(service: Service, side: Candidate) -> dict[str, Any]:
    metadata = service.model(side.model).metadata
    note = CheckpointNote(created_at=metadata.created_at, steps=metadata.steps, base=metadata.base, data=metadata.data)
    answer = VotedAnswer(model=side.model, checkpoint=note, settings=side.settings, content=side.content)
    return answer.model_dump(mode="json")
