"""Reads the lines of an import: conversations as they are exported, or examples of training data.

It knows the lines' forms and the store's rows, and does its work on a thread beside the event loop.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from serve.api.errors import ApiError
from serve.api.schemas.conversations import Feedback
from serve.api.schemas.requests import SessionId
from serve.api.schemas.responses import Sources, Timing, Usage
from serve.storage.import_export import NewConversation
from serve.storage.store import title_of


class _Message(BaseModel):
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


class _Conversation(BaseModel):
    """A conversation that comes in."""

    model_config = ConfigDict(extra="ignore")

    id: SessionId
    title: Annotated[str, Field(max_length=200)] = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    messages: list[_Message]


class _Turn(BaseModel):
    """One message of an example of training data; `context` is what a question's answer draws on."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str
    context: str | None = None

    def text(self) -> str:
        """What a chat shows for it."""
        return f"{self.content}\n\n{self.context}" if self.context else self.content


class _Example(BaseModel):
    """An example of training data that comes in as a conversation."""

    model_config = ConfigDict(extra="ignore")

    messages: Annotated[list[_Turn], Field(min_length=1)]


def read_conversations(owner: str, body: bytes, most: int) -> list[NewConversation]:
    """The conversations of a body, one a line; at most `most`. Raises ApiError, which names the first wrong line."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not lines:
        raise ApiError(400, "There is no conversation in the request's body.", param="body", code="missing_body")
    if len(lines) > most:
        raise ApiError(
            413,
            f"The request has {len(lines)} lines, and the server takes {most} at once; send them in parts.",
            param="body",
            code="too_many_lines",
        )
    now = datetime.now(UTC)
    return [_new(owner, _parse(line, number, now), number) for number, line in enumerate(lines, start=1)]


def _parse(line: bytes, number: int, now: datetime) -> _Conversation:
    try:
        if _is_example(line):
            return _from_example(_Example.model_validate_json(line), now - timedelta(milliseconds=number))
        conversation = _Conversation.model_validate_json(line)
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


def _from_example(example: _Example, moment: datetime) -> _Conversation:
    """A conversation whose ids come from its words, so that the same words are not taken in twice."""
    words = json.dumps([[turn.role, turn.text()] for turn in example.messages])
    name = f"import-{hashlib.sha256(words.encode()).hexdigest()[:32]}"
    ids: list[str | None] = [None, *(f"{name}-{place}" for place in range(len(example.messages)))]
    messages = [
        _Message.model_validate(
            {"id": own, "parent_id": parent, "role": turn.role, "content": turn.text(), "created_at": moment}
        )
        for parent, own, turn in zip(ids, ids[1:], example.messages, strict=False)
    ]
    asked = next((turn.content for turn in example.messages if turn.role == "user"), "")
    return _Conversation(id=name, title=title_of(asked), created_at=moment, updated_at=moment, messages=messages)


def _refusal(number: int, why: str) -> ApiError:
    return ApiError(400, f"Line {number} is no conversation: {why}.", param="body", code="invalid_value")


def _new(owner: str, conversation: _Conversation, number: int) -> NewConversation:
    values = {
        "owner": owner,
        "id": conversation.id,
        "title": conversation.title,
        "created_at": _in_utc(conversation.created_at, number),
        "updated_at": _in_utc(conversation.updated_at, number),
    }
    messages = [
        {
            "owner": owner,
            "conversation_id": conversation.id,
            "id": message.id,
            "parent_id": message.parent_id,
            "position": position,
            "role": message.role,
            "content": message.content,
            "created_at": _in_utc(message.created_at, number),
            "model": message.model,
            "finish_reason": message.finish_reason,
            "sources": _plain(message.sources),
            "usage": _plain(message.usage),
            "timing": _plain(message.timing),
            "rating": message.feedback.rating if message.feedback else None,
            "comment": message.feedback.comment if message.feedback else None,
            "correction": message.feedback.correction if message.feedback else None,
        }
        for position, message in enumerate(conversation.messages, start=1)
    ]
    return NewConversation(values, messages)


def _in_utc(moment: datetime, number: int) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise _refusal(number, "a date lies outside the years 1 to 9999 in UTC") from error


def _plain(value: BaseModel | None) -> dict[str, Any] | None:
    return None if value is None else value.model_dump()
