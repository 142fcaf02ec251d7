"""JSONL files: conversations out and in, training data and preference data out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from serve.api.auth import CallerDep
from serve.api.conversation_import import read_conversations
from serve.api.conversations import as_conversation
from serve.api.errors import store_errors
from serve.api.feedback import as_vote
from serve.api.schemas.conversations import Imported
from serve.api.service import Service, ServiceDep
from serve.api.training_data import Which, corrections_of, examples_of, preference_of
from serve.middleware.cors import TypedRoute
from serve.storage import votes
from serve.storage.import_export import ConversationWithMessages, add_conversations, export_batches

JSONL = "application/x-ndjson"
JSONL_TYPES = (JSONL, "application/jsonl")
VOTES_PAGE = 100
router = APIRouter(prefix="/v1", route_class=TypedRoute)


def _jsonl_of(model: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a response that has one object of a schema in each line."""
    line = {"$ref": f"#/components/schemas/{model}"}
    content = {JSONL: {"schema": {"type": "string"}, "x-line": line}}
    return {200: {"content": content, "description": f"One {model} a line."}}


@router.get(
    "/conversations.jsonl",
    tags=["conversations"],
    response_class=StreamingResponse,
    responses=_jsonl_of("Conversation"),
)
async def export_conversations(service: ServiceDep, caller: CallerDep) -> StreamingResponse:
    """All of the caller's conversations, newest first, one a line."""
    lines = _lines(service, caller, lambda batch: (as_conversation(*each) for each in batch))
    return await _attachment(service, caller, "conversations", lines)


@router.get("/training.jsonl", tags=["conversations"], response_class=StreamingResponse, responses=_jsonl_of("Example"))
async def export_training(
    service: ServiceDep,
    caller: CallerDep,
    which: Annotated[
        Which, Query(description="rated: what has a thumb up or a correction; all: what has no thumb down.")
    ] = "rated",
) -> StreamingResponse:
    """Instruction data for `resonance train data=json data.path=FILE`, one Example a line."""

    def examples(batch: Sequence[ConversationWithMessages]) -> Iterable[BaseModel]:
        return (example for _, messages in batch for example in examples_of(messages, which))

    lines = _lines(service, caller, examples, exclude_none=True)
    return await _attachment(service, caller, "training", lines)


@router.get("/preferences.jsonl", tags=["votes"], response_class=StreamingResponse, responses=_jsonl_of("Preference"))
async def export_preferences(service: ServiceDep, caller: CallerDep) -> StreamingResponse:
    """Preference data, one Preference a line: every vote that is no tie, and every corrected answer."""
    return await _attachment(service, caller, "preferences", _preference_lines(service, caller))


async def _preference_lines(service: Service, caller: CallerDep) -> AsyncIterator[str]:
    after, more = None, True
    while more:
        rows, more = await votes.votes(service.store, caller.owner, limit=VOTES_PAGE, after=after)
        for row in rows:
            after = row.id
            if row.choice != "tie":
                yield preference_of(as_vote(row)).model_dump_json() + "\n"

    def corrections(batch: Sequence[ConversationWithMessages]) -> Iterable[BaseModel]:
        return (preference for _, messages in batch for preference in corrections_of(messages))

    async for lines in _lines(service, caller, corrections):
        yield lines


async def _lines(
    service: Service,
    caller: CallerDep,
    convert: Callable[[Sequence[ConversationWithMessages]], Iterable[BaseModel]],
    *,
    exclude_none: bool = False,
) -> AsyncIterator[str]:
    """The lines of all of a caller's conversations, a batch at a time; a thread converts them to objects and JSON."""

    def write(batch: Sequence[ConversationWithMessages]) -> str:
        return "".join(each.model_dump_json(exclude_none=exclude_none) + "\n" for each in convert(batch))

    async for batch in export_batches(service.store, caller.owner):
        if lines := await asyncio.to_thread(write, batch):
            yield lines


async def _attachment(service: Service, caller: CallerDep, name: str, lines: AsyncIterator[str]) -> StreamingResponse:
    """Lines as a file that a browser saves. Raises ApiError 429 where too many exports are running."""
    with store_errors():  # before the response starts: its status could not change later
        await service.store.page(caller.owner, limit=1, after=None, query=None)
    service.export_limiter.check()
    name = f"{name}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(service.export_limiter.chunks(lines), media_type=JSONL, headers=headers)


@router.post(
    "/conversations.jsonl",
    tags=["conversations"],
    openapi_extra={
        "requestBody": {"content": {name: {"schema": {"type": "string"}} for name in JSONL_TYPES}, "required": True}
    },
)
async def import_conversations(request: Request, service: ServiceDep, caller: CallerDep) -> Imported:
    """Import conversations, one a line. Those whose id exists already stay unchanged.

    A line is a conversation as it is exported, or an example of training data with `messages` (`role`, `content`). The
    same example always becomes the same conversation. When any line is neither, nothing is imported.
    """
    conversations = await asyncio.to_thread(
        read_conversations, caller.owner, await request.body(), service.settings.limits.import_lines
    )
    with store_errors():
        imported = await add_conversations(service.store, caller.owner, conversations)
    return Imported(imported=imported, skipped=len(conversations) - imported)
