"""Pairs of a served answer and a shadow's answer, for their owner's blind votes."""

import secrets
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from serve.api.auth import CallerDep
from serve.api.errors import not_found, store_errors
from serve.api.feedback import as_vote
from serve.api.schemas.feedback import DeletedShadowPair, PairVoteRequest, ShadowPair, ShadowPairPage, Vote
from serve.api.service import ServiceDep
from serve.middleware.cors import TypedRoute
from serve.storage import shadow_pairs
from serve.storage.tables import ShadowPairRow, VoteRow

router = APIRouter(prefix="/v1/shadow-pairs", tags=["votes"], route_class=TypedRoute)
Id = Annotated[str, Path(max_length=64)]


@router.get("")
async def list_shadow_pairs(
    service: ServiceDep, caller: CallerDep, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> ShadowPairPage:
    """Pairs of answers to the caller's own questions that wait for a blind vote, newest first.

    One is by the served checkpoint, the other by the shadow (`shadow=RUN`); the vote says which. None is kept of who
    has not agreed to training.
    """
    with store_errors():
        rows, more = await shadow_pairs.pairs(service.store, caller.owner, limit=limit)
    return ShadowPairPage(data=[_blind(row) for row in rows], has_more=more)


@router.post("/{pair_id}/vote")
async def vote_on_shadow_pair(pair_id: Id, body: PairVoteRequest, service: ServiceDep, caller: CallerDep) -> Vote:
    """Vote for the better answer of a pair, which becomes a vote as any other and names both checkpoints."""
    row = VoteRow(
        owner=caller.owner, id=f"vote-{secrets.token_hex(12)}", created_at=datetime.now(UTC), choice=body.choice
    )
    with store_errors():
        vote = await shadow_pairs.vote_on(service.store, caller.owner, pair_id, row)
    if vote is None:
        raise not_found("pair")
    return as_vote(vote)


@router.delete("/{pair_id}")
async def delete_shadow_pair(pair_id: Id, service: ServiceDep, caller: CallerDep) -> DeletedShadowPair:
    """Delete a pair without a vote."""
    with store_errors():
        known = await shadow_pairs.delete_pair(service.store, caller.owner, pair_id)
    if not known:
        raise not_found("pair")
    return DeletedShadowPair(id=pair_id)


def _blind(row: ShadowPairRow) -> ShadowPair:
    return ShadowPair.model_validate(
        {
            "id": row.id,
            "created_at": row.created_at,
            "conversation": row.conversation_id,
            "prompt": row.prompt,
            "a": row.a["content"],
            "b": row.b["content"],
        }
    )
