"""Responses: OpenAI's newer API for text, on the stored conversations of the chats."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from serve.api.auth import Caller, CallerDep
from serve.api.errors import ApiError, not_found, session_busy, store_errors
from serve.api.schemas.messages import ChatMessage
from serve.api.schemas.requests import ChatRequest, JsonSchemaFormat, ResponseFormat
from serve.api.schemas.responses_api import DeletedResponse, ResponseObject, ResponseRequest
from serve.api.service import Service, ServiceDep
from serve.generation import response_events
from serve.generation.generation import Generation, replay
from serve.generation.prompt import prepare_chat, validate_chat
from serve.generation.responses import STREAMED, LastEventId
from serve.middleware.cors import TypedRoute
from serve.storage.tables import MessageRow

router = APIRouter(prefix="/v1/responses", tags=["responses"], route_class=TypedRoute)
ResponseId = Annotated[str, Path(max_length=64)]


@router.post("", response_model=ResponseObject, responses={200: STREAMED})
async def create_response(
    body: ResponseRequest,
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    last_event_id: LastEventId = None,
) -> Response:
    """Answer an input as OpenAI's Responses API does, whole or with `stream: true` in typed events."""
    if body.stream and last_event_id:
        return replay(service, caller, last_event_id)
    model = service.model(body.model)
    chat = await _chat_request(service, caller, body)
    validate_chat(service, chat)
    generation = await Generation.start(
        service,
        caller,
        model,
        lambda: prepare_chat(service, caller, model, chat),
        stream=bool(body.stream),
        prefix="resp",
        session_id=chat.session_id,
    )
    format = response_events.ResponseFormat(generation, body)
    return generation.stream(format) if body.stream else await generation.whole(request, format)


@router.get("/{response_id}")
async def read_response(response_id: ResponseId, service: ServiceDep, caller: CallerDep) -> ResponseObject:
    """A stored response. An answer of a chat with a `session_id` is one too."""
    row, messages = await _stored(service, caller, response_id)
    return response_events.stored_response(row, messages)


@router.delete("/{response_id}")
async def delete_response(response_id: ResponseId, service: ServiceDep, caller: CallerDep) -> DeletedResponse:
    """Delete a stored response and the input that only it answered; a conversation without messages goes too."""
    row, messages = await _stored(service, caller, response_id)
    conversation = row.conversation_id
    if service.locks.is_busy(caller.owner, conversation):
        raise session_busy("An answer in this conversation is still under way.")
    by_id = {message.id: message for message in messages}
    deleted = {row.id}
    above = by_id.get(row.parent_id or "")
    while above is not None and above.role in ("user", "system"):
        others = [message for message in messages if message.parent_id == above.id and message.id not in deleted]
        has_more = any(message.parent_id == row.id for message in messages)
        if others or (above.role == "system" and has_more):
            break
        deleted.add(above.id)
        above = by_id.get(above.parent_id or "")
    with store_errors():
        if len(deleted) == len(messages):
            await service.store.delete(caller.owner, conversation)
        else:
            for message_id in deleted:
                await service.store.delete_message(caller.owner, conversation, message_id)
    return DeletedResponse(id=response_id)


async def _stored(service: Service, caller: Caller, response_id: str) -> tuple[MessageRow, list[MessageRow]]:
    """A stored answer, and all messages of its conversation. Raises ApiError 404."""
    with store_errors():
        row = await service.store.message(caller.owner, response_id)
        if row is None or row.role != "assistant":
            raise not_found("response")
        return row, await service.store.messages(caller.owner, row.conversation_id)


async def _chat_request(service: Service, caller: Caller, body: ResponseRequest) -> ChatRequest:
    """The same request as one for a chat. Raises ApiError 400 where there is no previous response of that id."""
    messages = [] if body.instructions is None else [_message("developer", body.instructions)]
    if isinstance(body.input, str):
        given = [_message("user", body.input)]
    else:
        given = [_message(item.role, item.text()) for item in body.input]
    if given[-1].role != "user":
        raise ApiError(400, "The last item of input must be the user's.", param="input", code="invalid_messages")
    previous: MessageRow | None = None
    if body.previous_response_id is not None:
        try:
            previous, rows = await _stored(service, caller, body.previous_response_id)
        except ApiError as error:
            if error.status != 404:
                raise
            raise ApiError(
                400, "There is no such previous response; it was not stored, or it was deleted.",
                param="previous_response_id", code="previous_response_not_found",
            ) from error  # fmt: skip
        if body.store is False:
            messages += _history(previous, rows)
    stored = body.store is not False
    fields = {
        name: getattr(body, name) for name in ("model", "temperature", "top_p") if getattr(body, name) is not None
    }
    chat = ChatRequest(
        messages=[*messages, *given],
        max_completion_tokens=body.max_output_tokens,
        response_format=_format(body),
        session_id=None if not stored else previous.conversation_id if previous else f"resp-{secrets.token_hex(12)}",
        search=False,
        documents=False,
        **fields,
    )
    return chat.model_copy(update={"parent_id": previous.id}) if stored and previous else chat


def _history(end: MessageRow, rows: list[MessageRow]) -> list[ChatMessage]:
    """The messages up to a stored answer; a system prompt first."""
    by_id = {row.id: row for row in rows}
    chain: list[MessageRow] = []
    row: MessageRow | None = end
    while row is not None:
        chain.append(row)
        row = by_id.get(row.parent_id or "")
    roles = {"system": "developer", "user": "user", "assistant": "assistant"}
    known = [row for row in reversed(chain) if row.role in roles and not row.tool_calls]
    return [_message(roles[row.role], row.content) for row in known]


def _message(role: str, content: str) -> ChatMessage:
    return ChatMessage.model_validate({"role": role, "content": content})


def _format(body: ResponseRequest) -> ResponseFormat | None:
    format = None if body.text is None else body.text.format
    if format is None:
        return None
    if format.schema_ is None:
        return ResponseFormat.model_validate({"type": format.type})
    named = JsonSchemaFormat.model_validate({"name": format.name or "answer", "schema": format.schema_})
    return ResponseFormat(type="json_schema", json_schema=named)
