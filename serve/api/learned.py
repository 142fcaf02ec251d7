"""What checkpoints learned from the caller's judgements."""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Query

from resonance.aliases import AliasError
from resonance.improve.journal import JournalError
from serve.api.auth import CallerDep
from serve.api.errors import ApiError, store_errors
from serve.api.schemas.learned import (
    ChangedAnswer,
    GateCheck,
    InCheckpoint,
    Kind,
    Learned,
    LearnedCheckpoint,
    LearnedJudgement,
)
from serve.api.service import ServiceDep
from serve.judgements.learned import Trained, Uses, question_and_answer, trained_checkpoints, uses_of
from serve.middleware.cors import TypedRoute
from serve.storage.judged import Judged, judged, still_judged
from serve.storage.tables import VoteRow

log = logging.getLogger("resonance.serve")
router = APIRouter(prefix="/v1/learned", tags=["conversations"], route_class=TypedRoute)
_KINDS: dict[str, Kind] = {
    "correction": "correction",
    "approval": "approval",
    "siblings": "approval",
    "rejection": "rejection",
}


@router.get("")
async def learned(
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before.")] = None,
) -> Learned:
    """Which of the caller's judgements are in which checkpoint, and what changed in its answers to their questions.

    Checkpoints are those that `resonance improve` trained. A judgement is withdrawn by deleting the feedback or the
    vote: later training does not use it, and what was trained on it before is listed.
    """
    try:
        checkpoints = await asyncio.to_thread(trained_checkpoints, service.settings.root, caller.owner)
    except (AliasError, JournalError) as error:
        log.error("what was learned cannot be listed: %s", error)
        raise ApiError(
            503, "The records of training cannot be read; the server's log says why.", code="records_unreadable"
        ) from error
    with store_errors():
        rows, more = await judged(service.store, caller.owner, limit=limit, after=after)
        ids = {str(line["id"]) for each in checkpoints for line in each.lines}
        stored = await still_judged(service.store, caller.owner, ids)
    current, former = uses_of(checkpoints, stored)
    return Learned(
        checkpoints=[_checkpoint(each) for each in checkpoints] if after is None else [],
        withdrawn=[_former(id, uses) for id, uses in former.items()] if after is None else [],
        data=[_stored(row, current.get(row.id)) for row in rows],
        has_more=more,
    )


def _checkpoint(trained: Trained) -> LearnedCheckpoint:
    gate = trained.attempt.figures("gate") or {"checks": []}
    training = trained.attempt.figures("train") or {}
    return LearnedCheckpoint(
        checkpoint=trained.name,
        trained_from=trained.parent,
        trained_at=training["ended_at"],
        state=trained.state,
        judgements=trained.attempt.learned_from,
        yours=len({line["id"] for line, use in trained.used_lines() if use == "trained"}),
        checks=[GateCheck.model_validate(check) for check in gate["checks"]],
        answers=[
            ChangedAnswer(
                question=one.question,
                expected=one.expected,
                before=one.before,
                after=one.after,
                before_right=one.before_right,
                after_right=one.after_right,
            )
            for one in trained.changed_answers()
        ],
    )


def _stored(one: Judged, uses: Uses | None) -> LearnedJudgement:
    row = one.row
    if isinstance(row, VoteRow):
        better = row.b if row.choice == "b" else row.a
        kind: Kind = "vote"
        conversation, answer = None, "" if row.choice == "tie" else str(better["content"])
    else:
        kind = "correction" if row.correction else "approval" if row.rating == 1 else "rejection"
        conversation, answer = row.conversation_id, row.correction or row.content
    return LearnedJudgement(
        id=one.id,
        conversation=conversation,
        kind=kind,
        at=one.at,
        question=one.question,
        answer=answer,
        withdrawn=False,
        checkpoints=_in_checkpoints(uses),
    )


def _former(id: str, uses: Uses) -> LearnedJudgement:
    question, answer = question_and_answer(uses.line)
    return LearnedJudgement(
        id=id,
        conversation=uses.line["conversation"],
        kind=_KINDS.get(uses.line["origin"], "vote"),
        at=uses.line["at"],
        question=question,
        answer=answer,
        withdrawn=True,
        checkpoints=_in_checkpoints(uses),
    )


def _in_checkpoints(uses: Uses | None) -> list[InCheckpoint]:
    found = {} if uses is None else uses.checkpoints
    return [InCheckpoint(checkpoint=name, use=use) for name, use in found.items()]
