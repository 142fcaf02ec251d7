"""Conversations as JSONL, out and in: one a line, as the API shows it or as training reads it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from serve.api.auth import CallerDep
from serve.api.conversation_import import read_conversations
from serve.api.conversations import shown, stored
from serve.api.service import Service, ServiceDep
from serve.api.training_data import Which, examples_of
from serve.middleware.content_type import TypedRoute
from serve.storage.import_export import ConversationWithMessages, add_conversations, export_batches

JSONL = "application/x-ndjson"
JSONL_TYPES = (JSONL, "application/jsonl")
router = APIRouter(prefix="/v1", tags=["conversations"], route_class=TypedRoute)


def lines_of(model: str) -> dict[str, Any]:
    """How the schema describes an answer of lines, each of which has one of its forms."""
    line = {"$ref": f"#/components/schemas/{model}"}
    return {"content": {JSONL: {"schema": {"type": "string"}, "x-line": line}}, "description": f"One {model} a line."}


class Imported(BaseModel):
    """How many conversations came in, and how many were there already."""

    imported: int
    skipped: int


@router.get("/conversations.jsonl", response_class=StreamingResponse, responses={200: lines_of("Conversation")})
async def export_conversations(service: ServiceDep, caller: CallerDep) -> StreamingResponse:
    """All of the caller's conversations, newest first, one a line."""
    with stored():
        await service.store.page(caller.owner, limit=1, after=None, query=None)  # fails before the answer begins
    return attachment(service, "conversations", _whole(service, caller))


async def _whole(service: Service, caller: CallerDep) -> AsyncIterator[str]:
    async for batch in export_batches(service.store, caller.owner):
        yield await asyncio.to_thread(_lines, batch)


def _lines(batch: Sequence[ConversationWithMessages]) -> str:
    return "".join(shown(row, messages).model_dump_json() + "\n" for row, messages in batch)


@router.get("/training.jsonl", response_class=StreamingResponse, responses={200: lines_of("Example")})
async def export_training(
    service: ServiceDep,
    caller: CallerDep,
    which: Annotated[
        Which, Query(description="rated: what has a thumb up or a correction; all: what has no thumb down.")
    ] = "rated",
) -> StreamingResponse:
    """Instruction data for `resonance train data=json data.path=FILE`, one Example a line."""
    with stored():
        await service.store.page(caller.owner, limit=1, after=None, query=None)  # fails before the answer begins
    return attachment(service, "training", _examples(service, caller, which))


async def _examples(service: Service, caller: CallerDep, which: Which) -> AsyncIterator[str]:
    async for batch in export_batches(service.store, caller.owner):
        if lines := await asyncio.to_thread(_example_lines, batch, which):
            yield lines


def _example_lines(batch: Sequence[ConversationWithMessages], which: Which) -> str:
    examples = (example for _, messages in batch for example in examples_of(messages, which))
    return "".join(example.model_dump_json(exclude_none=True) + "\n" for example in examples)


def attachment(service: Service, name: str, lines: AsyncIterator[str]) -> StreamingResponse:
    """Lines as a file that a browser saves. Raises ApiError 429 where too many are being read."""
    service.export_limiter.check()
    name = f"{name}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(service.export_limiter.chunks(lines), media_type=JSONL, headers=headers)


@router.post(
    "/conversations.jsonl",
    openapi_extra={
        "requestBody": {"content": {name: {"schema": {"type": "string"}} for name in JSONL_TYPES}, "required": True}
    },
)
async def import_conversations(request: Request, service: ServiceDep, caller: CallerDep) -> Imported:
    """Take in conversations, one a line; those that are there already stay as they are.

    A line is a conversation as it is exported, or an example of training data with `messages` (`role`, `content`). The
    same example is the same conversation. Nothing comes in when any line is neither.
    """
    coming = await asyncio.to_thread(
        read_conversations, caller.owner, await request.body(), service.settings.limits.import_lines
    )
    with stored():
        imported = await add_conversations(service.store, caller.owner, coming)
    return Imported(imported=imported, skipped=len(coming) - imported)
