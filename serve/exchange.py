"""Conversations as JSONL, out and in: one whole conversation a line, in the form in which the API shows it."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from serve.answers import Conversation, Feedback, Sources, Usage
from serve.auth import Known
from serve.conversations import read_conversation, stored
from serve.errors import ApiError
from serve.schemas import SessionId
from serve.service import Service, Shared
from serve.store import storable
from serve.tables import ConversationRow, MessageRow

JSONL = "application/x-ndjson"
PAGE = 100
router = APIRouter(prefix="/v1/conversations.jsonl", tags=["conversations"])


class ImportedMessage(BaseModel):
    """One message of a conversation that comes in."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    parent_id: str | None = None
    role: Literal["system", "user", "assistant"]
    content: str
    created_at: AwareDatetime
    model: str | None = None
    finish_reason: Annotated[str, Field(max_length=32)] | None = None
    sources: Sources | None = None
    usage: Usage | None = None
    feedback: Feedback | None = None


class ImportedConversation(BaseModel):
    """A conversation that comes in."""

    model_config = ConfigDict(extra="ignore")

    id: SessionId
    title: Annotated[str, Field(max_length=200)] = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    messages: list[ImportedMessage]


class Imported(BaseModel):
    """How many conversations came in, and how many were there already."""

    imported: int
    skipped: int


@router.get("", response_class=StreamingResponse, responses={200: {"content": {JSONL: {}}}})
async def export_conversations(shared: Shared, caller: Known) -> StreamingResponse:
    """All of the caller's conversations, newest first, one a line."""
    with stored():
        await shared.store.page(caller.owner, limit=1, after=None, query=None)  # fails before the answer begins
    name = f"conversations-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_lines(shared, caller), media_type=JSONL, headers=headers)


async def _lines(shared: Service, caller: Known) -> AsyncIterator[str]:
    after: str | None = None
    while True:
        rows, more = await shared.store.page(caller.owner, limit=PAGE, after=after, query=None)
        for row, _ in rows:
            conversation: Conversation = await read_conversation(row.id, shared, caller)
            yield conversation.model_dump_json() + "\n"
            after = row.id
        if not more:
            return


@router.post("", openapi_extra={"requestBody": {"content": {JSONL: {"schema": {"type": "string"}}}, "required": True}})
async def import_conversations(request: Request, shared: Shared, caller: Known) -> Imported:
    """Take in conversations, one a line; those whose ids are there already stay as they are.

    Nothing comes in when any line is not a conversation.
    """
    lines = [line for line in (await request.body()).split(b"\n") if line.strip()]
    if not lines:
        raise ApiError(400, "There is no conversation in the request's body.", param="body", code="missing_body")
    conversations = [_parse(line, number) for number, line in enumerate(lines, start=1)]
    imported = 0
    for conversation in conversations:
        row, messages = _rows(caller.owner, conversation)
        with stored():
            imported += await shared.store.restore(row, messages)
    return Imported(imported=imported, skipped=len(conversations) - imported)


def _parse(line: bytes, number: int) -> ImportedConversation:
    try:
        conversation = ImportedConversation.model_validate_json(line)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the line"
        raise _refusal(number, f"{where} is not as it is exported") from error
    ids: set[str] = set()
    for message in conversation.messages:
        if message.id in ids:
            raise _refusal(number, "two messages have one id")
        if message.parent_id is not None and message.parent_id not in ids:
            raise _refusal(number, "a message follows one that does not stand before it")
        ids.add(message.id)
    return conversation


def _refusal(number: int, why: str) -> ApiError:
    return ApiError(400, f"Line {number} is no conversation: {why}.", param="body", code="invalid_value")


def _rows(owner: str, conversation: ImportedConversation) -> tuple[ConversationRow, Sequence[MessageRow]]:
    row = ConversationRow(
        owner=owner,
        id=conversation.id,
        title=storable(conversation.title),
        created_at=conversation.created_at.astimezone(UTC),
        updated_at=conversation.updated_at.astimezone(UTC),
    )
    messages = [
        MessageRow(
            owner=owner,
            conversation_id=conversation.id,
            id=message.id,
            parent_id=message.parent_id,
            position=position,
            role=message.role,
            content=storable(message.content),
            created_at=message.created_at.astimezone(UTC),
            model=message.model,
            finish_reason=message.finish_reason,
            sources=_plain(message.sources),
            usage=_plain(message.usage),
            rating=message.feedback.rating if message.feedback else None,
            comment=message.feedback.comment if message.feedback else None,
            correction=message.feedback.correction if message.feedback else None,
        )
        for position, message in enumerate(conversation.messages, start=1)
    ]
    return row, messages


def _plain(value: BaseModel | None) -> dict[str, Any] | None:
    return None if value is None else value.model_dump()
