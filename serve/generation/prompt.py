"""From a request's messages to the prompt: the conversation before them, their sources, what fits into the window."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from resonance.chat_template import Fitted, Message
from serve.api.auth import Caller
from serve.api.errors import ApiError, store_unavailable
from serve.api.schemas.requests import ChatRequest
from serve.api.service import Service
from serve.generation.grounding import Grounding, Unsearched, ground
from serve.models.served_model import ServedModel
from serve.storage.database import StoreUnavailable
from serve.storage.store import NewMessage, new_message_id
from serve.storage.tables import MessageRow

LONG_CHARS = 20_000  # texts longer than this are tokenised on a thread, so that nobody else waits


@dataclass(frozen=True, slots=True)
class Conversation:
    """All messages of a prompt; `fresh` are those new to the store, which follow the stored message `parent_id`.

    The answer begins with `beginning`, which the request has given.
    """

    messages: list[Message]
    fresh: list[NewMessage]
    parent_id: str | None
    beginning: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, and how much it may write."""

    fitted: Fitted
    grounding: Grounding | None
    unsearched: Unsearched | None
    max_new_tokens: int


def check(service: Service, body: ChatRequest) -> None:
    """Raise ApiError 400 for what a well-formed request cannot ask for."""
    limits = service.settings.limits
    if len(body.messages) > limits.messages:
        raise ApiError(
            400, f"At most {limits.messages} messages a request.", param="messages", code="too_many_messages"
        )
    for i, message in enumerate(body.messages):
        if len(message.text()) > limits.message_chars:
            raise ApiError(
                400,
                f"A message has at most {limits.message_chars} characters.",
                param=f"messages.{i}.content",
                code="message_too_long",
            )
    asked = body.messages[:-1] if body.messages[-1].role == "assistant" else body.messages
    if (asked and asked[-1].role != "user") or not (asked or body.parent_id):
        raise ApiError(
            400,
            "The last message must be the user's, or the beginning of the answer to it.",
            param="messages",
            code="invalid_messages",
        )
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true.", param="top_logprobs", code="invalid_value")
    if body.session_id is None and body.parent_id is not None:
        raise ApiError(400, "parent_id needs a session_id.", param="parent_id", code="invalid_value")
    if body.session_id is not None and (body.n or 1) > 1:
        raise ApiError(
            400, "A stored conversation takes one answer at a time: n must be 1.", param="n", code="invalid_value"
        )
    if body.search and service.retriever is None:
        raise ApiError(400, "There is no search on this server.", param="search", code="search_disabled")


async def read_conversation(service: Service, caller: Caller, body: ChatRequest) -> Conversation:
    """The request's messages behind the stored ones that they follow. Raises ApiError 404 and 503."""
    history: list[MessageRow] = []
    if body.session_id is not None:
        history = await _history(service, caller.owner, body.session_id, body)
    messages, fresh = _joined(history, body)
    if messages[-1].role != "user":
        raise ApiError(400, "There is no question at that place to answer.", param="parent_id", code="invalid_messages")
    last = body.messages[-1]
    beginning = last.text() if last.role == "assistant" else ""
    return Conversation(messages, fresh, history[-1].id if history else None, beginning)


async def make_prompt(service: Service, model: ServedModel, body: ChatRequest, conversation: Conversation) -> Prompt:
    """Search where the request wants it, and keep the newest turns that fit. Raises ApiError when they do not."""
    messages: Sequence[Message] = conversation.messages
    wanted = body.max_completion_tokens or body.max_tokens or service.settings.sampling.max_new_tokens
    found = await ground(service, model, body, messages, wanted)
    grounding = found if isinstance(found, Grounding) else None
    if grounding is not None:
        messages = grounding.with_context(messages)
    beginning = conversation.beginning
    if sum(len(message.content) for message in messages) + len(beginning) > LONG_CHARS:
        fitted = await asyncio.to_thread(model.fit, messages, wanted, beginning)
    else:
        fitted = model.fit(messages, wanted, beginning)
    unsearched = found if isinstance(found, Unsearched) else None
    return Prompt(fitted, grounding, unsearched, min(wanted, model.context_length - len(fitted.prompt_ids)))


async def _history(service: Service, owner: str, session_id: str, body: ChatRequest) -> list[MessageRow]:
    """The stored messages that lead to the request's, oldest first."""
    try:
        rows = await service.store.messages(owner, session_id)
    except StoreUnavailable as error:
        raise store_unavailable(error) from error
    by_id = {row.id: row for row in rows}
    if "parent_id" not in body.model_fields_set:
        parent_id = rows[-1].id if rows else None
    else:
        parent_id = body.parent_id
        if parent_id is not None and parent_id not in by_id:
            raise ApiError(404, "There is no such message in this conversation.", param="parent_id", code="not_found")
    chain: list[MessageRow] = []
    # A parent may be missing: the conversation was given to another owner while its answer was under way.
    while parent_id is not None and (row := by_id.get(parent_id)) is not None:
        chain.append(row)
        parent_id = row.parent_id
    return chain[::-1]


def _joined(history: Sequence[MessageRow], body: ChatRequest) -> tuple[list[Message], list[NewMessage]]:
    """All messages of the prompt, and those of them that are new to the store.

    There is one system prompt: the request's, else the newest one stored.
    """
    given = [m.text() for m in body.messages if m.role in ("system", "developer")]
    stored = [row.content for row in history if row.role == "system"]
    system = "\n\n".join(given) if given else (stored[-1] if stored else None)
    past = [
        Message("user" if row.role == "user" else "assistant", row.content) for row in history if row.role != "system"
    ]
    spoken = [
        Message("user" if m.role == "user" else "assistant", m.text())
        for m in (body.messages[:-1] if body.messages[-1].role == "assistant" else body.messages)
        if m.role in ("user", "assistant")
    ]
    messages = ([] if system is None else [Message("system", system)]) + past + spoken
    fresh = [NewMessage(message.role, message.content, new_message_id()) for message in spoken]
    if given and stored[-1:] != [system] and system is not None:
        fresh.insert(0, NewMessage("system", system, new_message_id()))
    return messages, fresh
