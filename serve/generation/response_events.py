"""A generation as a response of OpenAI's Responses API: one object, or typed events."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from serve.api.schemas.responses_api import (
    IncompleteDetails,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponseRequest,
    ResponseUsage,
)
from serve.generation.event_stream import EventStream
from serve.generation.format import Format
from serve.generation.generation import Generation
from serve.storage.tables import MessageRow
from serve.workers.messages import Scored, Token

Status = Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]
STATUSES: dict[str | None, Status] = {"length": "incomplete", "cancelled": "cancelled", "error": "failed"}
"""By a finish reason; every other one is a completed response."""


class ResponseFormat(Format):
    """Writes a generation as a response, or as its events."""

    def __init__(self, generation: Generation, body: ResponseRequest) -> None:
        self._generation, self._body = generation, body
        self._numbers = 0  # of events so far
        self._item_id = message_id(generation.id)

    async def add_scores(self, scored: Scored) -> None:
        """Do nothing: responses request no log-probabilities of their prompts."""

    async def body(self) -> bytes:
        """Return the response."""
        return self._response().model_dump_json().encode()

    def write_start(self, stream: EventStream) -> None:
        """Write that the response and its message begin."""
        begun = self._response("in_progress").model_dump(mode="json")
        self._add(stream, "response.created", response=begun)
        self._add(stream, "response.in_progress", response=begun)
        item = OutputMessage(id=self._item_id, status="in_progress", content=[]).model_dump()
        self._add(stream, "response.output_item.added", output_index=0, item=item)
        self._add_part(stream, "response.content_part.added", part=OutputText(text="").model_dump())

    async def write_token(self, stream: EventStream, token: Token) -> None:
        """Write the token's text."""
        if token.text:
            self._add_part(stream, "response.output_text.delta", delta=token.text, logprobs=[])

    async def write_end(self, stream: EventStream) -> None:
        """Write the whole text, message and response."""
        response = self._response()
        message = response.output[0]
        text = message.content[0]
        self._add_part(stream, "response.output_text.done", text=text.text, logprobs=[])
        self._add_part(stream, "response.content_part.done", part=text.model_dump())
        self._add(stream, "response.output_item.done", output_index=0, item=message.model_dump())
        kind = "response.incomplete" if response.status == "incomplete" else "response.completed"
        self._add(stream, kind, response=response.model_dump(mode="json"))

    def _add_part(self, stream: EventStream, kind: str, **fields: Any) -> None:
        self._add(stream, kind, item_id=self._item_id, output_index=0, content_index=0, **fields)

    def _add(self, stream: EventStream, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": self._numbers} | fields
        self._numbers += 1
        stream.add(json.dumps(event, ensure_ascii=False), event=kind)

    def _response(self, status: Status | None = None) -> ResponseObject:
        generation, body = self._generation, self._body
        [choice] = generation.choices
        status = status or STATUSES.get(choice.finish_reason, "completed")
        usage = generation.usage()
        return ResponseObject(
            id=generation.id,
            created_at=generation.created,
            status=status,
            incomplete_details=IncompleteDetails() if status == "incomplete" else None,
            instructions=body.instructions,
            max_output_tokens=body.max_output_tokens,
            metadata=body.metadata or {},
            model=generation.model.name,
            output=[] if status == "in_progress" else [_message(generation.id, choice.answer_text(), status)],
            previous_response_id=body.previous_response_id,
            store=body.store is not False,
            temperature=body.temperature,
            text=ResponseObject.model_fields["text"].default
            if body.text is None or body.text.format is None
            else body.text.model_dump(by_alias=True, exclude_none=True),
            top_p=body.top_p,
            usage=None
            if status == "in_progress"
            else ResponseUsage(
                input_tokens=usage.prompt_tokens,
                output_tokens=usage.completion_tokens,
                total_tokens=usage.total_tokens,
            ),
        )


def stored_response(row: MessageRow, messages: Sequence[MessageRow]) -> ResponseObject:
    """Return a stored answer as a response; `messages` are those of its conversation."""
    by_id = {message.id: message for message in messages}
    previous = by_id.get(row.parent_id or "")
    while previous is not None and previous.role != "assistant":
        previous = by_id.get(previous.parent_id or "")
    status = STATUSES.get(row.finish_reason, "completed")
    usage = row.usage or {}
    return ResponseObject(
        id=row.id,
        created_at=int(row.created_at.timestamp()),
        status=status,
        incomplete_details=IncompleteDetails() if status == "incomplete" else None,
        model=row.model or "",
        output=[_message(row.id, row.content, status)],
        previous_response_id=None if previous is None else previous.id,
        usage=ResponseUsage(
            input_tokens=usage.get("prompt_tokens", 0),
            output_tokens=usage.get("completion_tokens", 0),
            total_tokens=usage.get("total_tokens", 0),
        ),
    )


def message_id(response_id: str) -> str:
    """The id of a response's message."""
    return f"msg_{response_id.rpartition('-')[2]}"


def _message(response_id: str, text: str, status: Status) -> OutputMessage:
    complete: Literal["completed", "incomplete"] = "completed" if status == "completed" else "incomplete"
    return OutputMessage(id=message_id(response_id), status=complete, content=[OutputText(text=text)])
