"""Conversations as JSONL, out and in: one a line, as the API shows it or as training reads it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from serve.api.auth import Known
from serve.api.conversation_import import read_conversations
from serve.api.conversations import shown, stored
from serve.api.service import Service, Shared
from serve.middleware.content_type import TypedRoute
from serve.storage.exports import Whole, whole_conversations
from serve.storage.imports import add_conversations
from serve.storage.training_examples import Which, examples_of

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
async def export_conversations(shared: Shared, caller: Known) -> StreamingResponse:
    """All of the caller's conversations, newest first, one a line."""
    with stored():
        await shared.store.page(caller.owner, limit=1, after=None, query=None)  # fails before the answer begins
    return attachment(shared, "conversations", _whole(shared, caller))


async def _whole(shared: Service, caller: Known) -> AsyncIterator[str]:
    async for batch in whole_conversations(shared.store, caller.owner):
        yield await asyncio.to_thread(_lines, batch)


def _lines(batch: Sequence[Whole]) -> str:
    return "".join(shown(row, messages).model_dump_json() + "\n" for row, messages in batch)


@router.get("/training.jsonl", response_class=StreamingResponse, responses={200: lines_of("Example")})
async def export_training(
    shared: Shared,
    caller: Known,
    which: Annotated[
        Which, Query(description="rated: what has a thumb up or a correction; all: what has no thumb down.")
    ] = "rated",
) -> StreamingResponse:
    """Instruction data for `resonance train data=json data.path=FILE`, one Example a line."""
    with stored():
        await shared.store.page(caller.owner, limit=1, after=None, query=None)  # fails before the answer begins
    return attachment(shared, "training", _examples(shared, caller, which))


async def _examples(shared: Service, caller: Known, which: Which) -> AsyncIterator[str]:
    async for batch in whole_conversations(shared.store, caller.owner):
        if lines := await asyncio.to_thread(_example_lines, batch, which):
            yield lines


def _example_lines(batch: Sequence[Whole], which: Which) -> str:
    examples = (example for _, messages in batch for example in examples_of(messages, which))
    return "".join(example.model_dump_json(exclude_none=True) + "\n" for example in examples)


def attachment(shared: Service, name: str, lines: AsyncIterator[str]) -> StreamingResponse:
    """Lines as a file that a browser saves. Raises ApiError 429 where too many are being read."""
    shared.exports.check()
    name = f"{name}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(shared.exports.pieces(lines), media_type=JSONL, headers=headers)


@router.post(
    "/conversations.jsonl",
    openapi_extra={
        "requestBody": {"content": {name: {"schema": {"type": "string"}} for name in JSONL_TYPES}, "required": True}
    },
)
async def import_conversations(request: Request, shared: Shared, caller: Known) -> Imported:
    """Take in conversations, one a line; those that are there already stay as they are.

    A line is a conversation as it is exported, or an example of training data with `messages` (`role`, `content`). The
    same example is the same conversation. Nothing comes in when any line is neither.
    """
    coming = await asyncio.to_thread(
        read_conversations, caller.owner, await request.body(), shared.settings.limits.import_lines
    )
    with stored():
        imported = await add_conversations(shared.store, caller.owner, coming)
    return Imported(imported=imported, skipped=len(coming) - imported)
