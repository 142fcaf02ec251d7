"""Where an answer came from: the training examples that pulled most towards it.

Gradients need the weights in float32 and seconds of work, so that a process of its own computes them, one at a time,
with a lower priority than answers have. It ends with its request.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.influence.index import InfluenceIndex
from serve.api.auth import CallerDep
from serve.api.errors import ApiError, not_found, store_errors
from serve.api.schemas.explain import ExplainRequest, Explanation, Influence
from serve.api.service import Service, ServiceDep
from serve.generation.responses import while_connected
from serve.middleware.cors import TypedRoute
from serve.models.served_model import ServedModel
from serve.thread import NoSuchAnswer, read_thread

SECONDS = 60.0  # that an explanation may take
COMMAND = (sys.executable, "-m", "resonance.influence")
router = APIRouter(prefix="/v1/explain", tags=["models"], route_class=TypedRoute)


@router.post("")
async def explain(body: ExplainRequest, request: Request, service: ServiceDep, caller: CallerDep) -> Explanation:
    """Which of a checkpoint's training examples pulled most towards an answer, a stored one or any other.

    The checkpoint needs an index of its training examples, which `resonance explain` makes. The texts are shown to
    everybody who may ask; the server's setting `explain` says who may.
    """
    if not may_show(service.settings.explain, is_open=service.keys.open):
        message = "This server does not show its training examples; its setting explain=always would."
        raise ApiError(403, message, code="not_shown")
    messages, name = await _answer(body, service, caller.owner)
    model = service.model(name)
    await asyncio.to_thread(_check_index, model)
    if service.explaining.locked():
        raise ApiError(429, "Another answer is being explained.", code="server_full", retry_after=2)
    async with service.explaining:
        found = await while_connected(request, _compute(model.folder, messages, body.count))
    if "error" in found:
        raise ApiError(400, found["error"], code="cannot_explain")
    record = found["record"]
    return Explanation(
        checkpoint=model.checkpoint,
        parameters=record["parameters"],
        training_examples=record["training_examples"],
        examples_compared=record["examples"],
        data=[_influence(one, caller.owner) for one in found["influences"]],
    )


def may_show(explain: str, *, is_open: bool) -> bool:
    """Whether the setting `explain` lets callers see training examples; `is_open`: no keys are needed."""
    return explain == "always" or (explain == "auto" and is_open)


async def _answer(body: ExplainRequest, service: Service, owner: str) -> tuple[list[dict[str, str]], str | None]:
    """The messages up to the answer, and the model to ask. Raises ApiError 404."""
    if body.conversation is None:
        roles = {"developer": "system"}
        given = body.messages or []
        return [{"role": roles.get(one.role, one.role), "content": one.text()} for one in given], body.model
    with store_errors():
        try:
            rows = await read_thread(service.store, owner, body.conversation, body.message)
        except NoSuchAnswer as error:
            raise not_found("answer") from error
    if not rows:
        raise not_found("conversation")
    return [{"role": row.role, "content": row.content} for row in rows], body.model or rows[-1].model


def _check_index(model: ServedModel) -> None:
    try:
        InfluenceIndex.open(Checkpoint.open(model.folder))
    except ResonanceError as error:
        raise ApiError(404, str(error), param="model", code="no_index") from error


async def _compute(folder: str, messages: Sequence[dict[str, str]], count: int) -> dict[str, Any]:
    """Ask a process of its own, which ends when this is cancelled. Raises ApiError 503 and 504."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, stdin=pipe, stdout=pipe)
    question = json.dumps({"folder": folder, "messages": messages, "count": count}).encode()
    try:
        async with asyncio.timeout(SECONDS):
            answer, _ = await process.communicate(question)
    except TimeoutError as error:
        raise ApiError(504, f"The answer was not explained in {SECONDS:.0f} s.", code="timeout") from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        raise ApiError(503, "The answer could not be explained; the server's log says why.", code="explain_failed")
    return json.loads(answer)


def _influence(one: dict[str, Any], owner: str) -> Influence:
    judged = one["provenance"] or {}
    yours = judged.get("owner_id") == owner
    shown = yours or one["kind"] == "example"
    return Influence(
        score=one["score"],
        kind=one["kind"],
        yours=yours,
        prompt=one["prompt"] if shown else None,
        answer=one["answer"] if shown else None,
        rejected=one.get("rejected") if shown else None,
        family=one.get("family"),
    )
