"""Parses the lines of an import: exported conversations, or examples of training data, to rows of the store.

It is called on a thread: parsing many lines takes too long for the event loop.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from serve.api.errors import ApiError
from serve.api.schemas.conversations import Feedback
from serve.api.schemas.fields import SessionId, SourceChoice
from serve.api.schemas.responses import Sources, Timing, ToolCallMessage, Usage
from serve.storage.import_export import NewConversation
from serve.storage.store import title_of


class _Message(BaseModel):
    """One message of an exported conversation."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    parent_id: str | None = None
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    created_at: AwareDatetime
    model: str | None = None
    finish_reason: Annotated[str, Field(max_length=32)] | None = None
    sources: Sources | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    feedback: Feedback | None = None
    tool_calls: list[ToolCallMessage] | None = None
    tool_call_id: Annotated[str, Field(max_length=64)] | None = None


class _Conversation(BaseModel):
    """An exported conversation."""

    model_config = ConfigDict(extra="ignore")

    id: SessionId
    title: Annotated[str, Field(max_length=200)] = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    pinned: bool = False
    archived: bool = False
    folder: Annotated[str, Field(max_length=60)] | None = None
    search_sources: SourceChoice | None = None
    messages: list[_Message]


class _Turn(BaseModel):
    """One message of an example of training data; `context` holds the search results for a question."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str
    context: str | None = None

    def text(self) -> str:
        """The content with its context, as a chat shows it."""
        return f"{self.content}\n\n{self.context}" if self.context else self.content


class _Example(BaseModel):
    """An example of training data."""

    model_config = ConfigDict(extra="ignore")

    messages: Annotated[list[_Turn], Field(min_length=1)]


def read_conversations(owner: str, body: bytes, max_lines: int) -> list[NewConversation]:
    """Parse a body of one conversation a line. Raises ApiError, which names the first invalid line."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not lines:
        raise ApiError(400, "There is no conversation in the request's body.", param="body", code="missing_body")
    if len(lines) > max_lines:
        raise ApiError(
            413,
            f"The request has {len(lines)} lines, and the server takes {max_lines} at once; send them in parts.",
            param="body",
            code="too_many_lines",
        )
    now = datetime.now(UTC)
    conversations: list[NewConversation] = []
    for number, line in enumerate(lines, start=1):
        try:
            conversations.append(_new_conversation(owner, _parse(line, number, now)))
        except OverflowError as error:
            raise _invalid_line(number, "a date lies outside the years 1 to 9999 in UTC") from error
    return conversations


def _parse(line: bytes, number: int, now: datetime) -> _Conversation:
    try:
        if _is_example(line):
            return _from_example(_Example.model_validate_json(line), now - timedelta(milliseconds=number))
        conversation = _Conversation.model_validate_json(line)
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the line"
        raise _invalid_line(number, f"{field} is not as it is exported") from error
    ids: set[str] = set()
    for message in conversation.messages:
        if message.id in ids:
            raise _invalid_line(number, "two messages have one id")
        if message.parent_id is not None and message.parent_id not in ids:
            raise _invalid_line(number, "a message follows one that does not stand before it")
        ids.add(message.id)
    return conversation


def _is_example(line: bytes) -> bool:
    """Whether a line is training data: an object that has messages but no id."""
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "messages" in value and "id" not in value


def _from_example(example: _Example, created_at: datetime) -> _Conversation:
    """A conversation whose ids are hashes of its content, so that the same example is imported only once."""
    content = json.dumps([[turn.role, turn.text()] for turn in example.messages])
    name = f"import-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
    ids: list[str | None] = [None, *(f"{name}-{i}" for i in range(len(example.messages)))]
    messages = [
        _Message.model_validate(
            {"id": own, "parent_id": parent, "role": turn.role, "content": turn.text(), "created_at": created_at}
        )
        for parent, own, turn in zip(ids, ids[1:], example.messages, strict=False)
    ]
    title = title_of(next((turn.content for turn in example.messages if turn.role == "user"), ""))
    return _Conversation(id=name, title=title, created_at=created_at, updated_at=created_at, messages=messages)


def _invalid_line(number: int, why: str) -> ApiError:
    return ApiError(400, f"Line {number} is no conversation: {why}.", param="body", code="invalid_value")


def _new_conversation(owner: str, conversation: _Conversation) -> NewConversation:
    """The rows of a conversation. Raises OverflowError for a time that UTC cannot express."""
    values = {
        "owner": owner,
        "id": conversation.id,
        "title": conversation.title,
        "created_at": conversation.created_at.astimezone(UTC),
        "updated_at": conversation.updated_at.astimezone(UTC),
        "pinned": conversation.pinned,
        "archived": conversation.archived,
        "folder": conversation.folder,
        "search_sources": conversation.search_sources,
    }
    messages: list[dict[str, Any]] = [
        message.model_dump(exclude={"feedback"})
        | {
            "owner": owner,
            "conversation_id": conversation.id,
            "position": position,
            "created_at": message.created_at.astimezone(UTC),
            "rating": message.feedback.rating if message.feedback else None,
            "comment": message.feedback.comment if message.feedback else None,
            "correction": message.feedback.correction if message.feedback else None,
        }
        for position, message in enumerate(conversation.messages, start=1)
    ]
    return NewConversation(values, messages)
