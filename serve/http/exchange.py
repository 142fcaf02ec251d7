"""Conversations as JSONL, out and in: one a line, as the API shows it or as training reads it."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from serve.http.answers import Sources, Timing, Usage
from serve.http.auth import Known
from serve.http.conversations import shown, stored
from serve.http.errors import ApiError
from serve.http.records import Feedback
from serve.http.schemas import SessionId
from serve.http.service import Service, Shared
from serve.http.training import Which, examples_of
from serve.storage.store import title_of
from serve.storage.tables import ConversationRow, MessageRow

JSONL = "application/x-ndjson"
PAGE = 100
router = APIRouter(prefix="/v1", tags=["conversations"])


def lines_of(model: str) -> dict[str, Any]:
    """How the schema describes an answer of lines, each of which has one of its forms."""
    line = {"$ref": f"#/components/schemas/{model}"}
    return {"content": {JSONL: {"schema": {"type": "string"}, "x-line": line}}, "description": f"One {model} a line."}


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
    timing: Timing | None = None
    feedback: Feedback | None = None


class ImportedConversation(BaseModel):
    """A conversation that comes in."""

    model_config = ConfigDict(extra="ignore")

    id: SessionId
    title: Annotated[str, Field(max_length=200)] = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    messages: list[ImportedMessage]


class ImportedTurn(BaseModel):
    """One message of an example of training data; `context` is what a question's answer draws on."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str
    context: str | None = None

    def text(self) -> str:
        """What a chat shows for it."""
        return f"{self.content}\n\n{self.context}" if self.context else self.content


class ImportedExample(BaseModel):
    """An example of training data that comes in as a conversation."""

    model_config = ConfigDict(extra="ignore")

    messages: Annotated[list[ImportedTurn], Field(min_length=1)]


class Imported(BaseModel):
    """How many conversations came in, and how many were there already."""

    imported: int
    skipped: int


@router.get("/conversations.jsonl", response_class=StreamingResponse, responses={200: lines_of("Conversation")})
async def export_conversations(shared: Shared, caller: Known) -> StreamingResponse:
    """All of the caller's conversations, newest first, one a line."""
    with stored():
        await shared.store.page(caller.owner, limit=1, after=None, query=None)  # fails before the answer begins
    return attachment("conversations", _whole(shared, caller))


async def _whole(shared: Service, caller: Known) -> AsyncIterator[str]:
    async for row, messages in conversations(shared, caller):
        yield shown(row, messages).model_dump_json() + "\n"


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
    return attachment("training", _examples(shared, caller, which))


async def _examples(shared: Service, caller: Known, which: Which) -> AsyncIterator[str]:
    async for _, messages in conversations(shared, caller):
        for example in examples_of(messages, which):
            yield example.model_dump_json(exclude_none=True) + "\n"


def attachment(name: str, lines: AsyncIterator[str]) -> StreamingResponse:
    """Lines as a file that a browser saves."""
    name = f"{name}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type=JSONL, headers=headers)


async def conversations(shared: Service, caller: Known) -> AsyncIterator[tuple[ConversationRow, list[MessageRow]]]:
    """All of the caller's conversations with their messages, newest first."""
    after, more = None, True
    while more:
        rows, more = await shared.store.page(caller.owner, limit=PAGE, after=after, query=None)
        for row, _ in rows:
            after = row.id
            found = await shared.store.conversation(caller.owner, row.id)
            if found is not None:  # else it was deleted meanwhile
                yield found


@router.post(
    "/conversations.jsonl",
    openapi_extra={"requestBody": {"content": {JSONL: {"schema": {"type": "string"}}}, "required": True}},
)
async def import_conversations(request: Request, shared: Shared, caller: Known) -> Imported:
    """Take in conversations, one a line; those that are there already stay as they are.

    A line is a conversation as it is exported, or an example of training data with `messages` (`role`, `content`). The
    same example is the same conversation. Nothing comes in when any line is neither.
    """
    lines = [line for line in (await request.body()).split(b"\n") if line.strip()]
    if not lines:
        raise ApiError(400, "There is no conversation in the request's body.", param="body", code="missing_body")
    now = datetime.now(UTC)
    coming = [_parse(line, number, now) for number, line in enumerate(lines, start=1)]
    imported = 0
    for conversation in coming:
        row, messages = _rows(caller.owner, conversation)
        with stored():
            imported += await shared.store.restore(row, messages)
    return Imported(imported=imported, skipped=len(coming) - imported)


def _parse(line: bytes, number: int, now: datetime) -> ImportedConversation:
    try:
        if _is_example(line):
            return _from_example(ImportedExample.model_validate_json(line), now - timedelta(milliseconds=number))
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


def _is_example(line: bytes) -> bool:
    """Whether a line is training data: messages that belong to no conversation."""
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "messages" in value and "id" not in value


def _from_example(example: ImportedExample, moment: datetime) -> ImportedConversation:
    """A conversation whose ids come from its words, so that the same words are not taken in twice."""
    words = json.dumps([[turn.role, turn.text()] for turn in example.messages])
    name = f"import-{hashlib.sha256(words.encode()).hexdigest()[:32]}"
    ids: list[str | None] = [None, *(f"{name}-{place}" for place in range(len(example.messages)))]
    messages = [
        ImportedMessage.model_validate(
            {"id": own, "parent_id": parent, "role": turn.role, "content": turn.text(), "created_at": moment}
        )
        for parent, own, turn in zip(ids, ids[1:], example.messages, strict=False)
    ]
    asked = next((turn.content for turn in example.messages if turn.role == "user"), "")
    return ImportedConversation(id=name, title=title_of(asked), created_at=moment, updated_at=moment, messages=messages)


def _refusal(number: int, why: str) -> ApiError:
    return ApiError(400, f"Line {number} is no conversation: {why}.", param="body", code="invalid_value")


def _rows(owner: str, conversation: ImportedConversation) -> tuple[ConversationRow, Sequence[MessageRow]]:
    row = ConversationRow(
        owner=owner,
        id=conversation.id,
        title=conversation.title,
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
            content=message.content,
            created_at=message.created_at.astimezone(UTC),
            model=message.model,
            finish_reason=message.finish_reason,
            sources=_plain(message.sources),
            usage=_plain(message.usage),
            timing=_plain(message.timing),
            rating=message.feedback.rating if message.feedback else None,
            comment=message.feedback.comment if message.feedback else None,
            correction=message.feedback.correction if message.feedback else None,
        )
        for position, message in enumerate(conversation.messages, start=1)
    ]
    return row, messages


def _plain(value: BaseModel | None) -> dict[str, Any] | None:
    return None if value is None else value.model_dump()
