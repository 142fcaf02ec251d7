"""One turn of a chat: from a request's messages to a job that is under way, and to the answer that is kept.

It knows conversations, prompts and places; how an answer is written down is the endpoints' business.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from resonance.chat import Fitted, Message
from serve.answers import Source, Sources, Usage
from serve.auth import Caller
from serve.errors import ApiError
from serve.models import ServedModel
from serve.rag import Retrieved
from serve.sampling import engine_params
from serve.schemas import ChatRequest
from serve.service import Service
from serve.spec import Answer
from serve.store import NewMessage, StoreUnavailable, new_message_id
from serve.tables import MessageRow
from serve.wire import Failure, Idle, Prompt, Token

LONG_CHARS = 20_000  # texts longer than this are tokenised on a thread, so that nobody else waits

STORE_UNAVAILABLE = "store_unavailable"


def no_store() -> ApiError:
    """The error of everything that needs the database while it does not answer."""
    return ApiError(503, "The conversations cannot be reached.", code=STORE_UNAVAILABLE, retry_after=5)


@dataclass(slots=True)
class Said:
    """One answer so far."""

    text: list[str] = field(default_factory=list[str])
    tokens: list[Token] = field(default_factory=list[Token])
    finish_reason: str | None = None


@dataclass(slots=True)
class Turn:
    """A chat request under way. `close()` must be called, whatever happens."""

    id: str
    created: int
    service: Service
    caller: Caller
    body: ChatRequest
    model: ServedModel
    answer: Answer
    fitted: Fitted
    sources: Sources | None
    parent_id: str | None  # of the answer: the last stored message
    said: list[Said]
    began: float
    stack: ExitStack

    async def events(self) -> AsyncIterator[Token | Idle]:
        """The tokens of all answers, and signs of life in between. Raises ApiError when the work fails."""
        first = True
        async for event in self.answer.events():
            if isinstance(event, Token):
                if first:
                    self.service.metrics.first_token.observe(time.monotonic() - self.began)
                    first = False
                said = self.said[event.index]
                said.text.append(event.text)
                said.finish_reason = event.finish_reason
                if event.token_id is not None:
                    said.tokens.append(event)
                yield event
            elif isinstance(event, Idle):
                yield event
            elif isinstance(event, Failure):
                raise ApiError(event.status, event.message, code=event.code, retry_after=1)
        self.service.metrics.answer_seconds.observe(time.monotonic() - self.began)

    def usage(self) -> Usage:
        """Counts so far."""
        prompt, made = len(self.fitted.prompt_ids), sum(len(said.tokens) for said in self.said)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=made,
            total_tokens=prompt + made,
            messages_kept=len(self.fitted.messages),
            messages_dropped=self.fitted.dropped,
        )

    async def keep(self, reason: str | None = None) -> None:
        """Store the answer as far as it goes, where there is a conversation. Raises ApiError 503 when that fails.

        `reason` says why it goes no further, when the model itself has not ended it.
        """
        self.answer.close()
        self.service.quotas.spend(self.caller.client, sum(len(said.tokens) for said in self.said))
        if self.body.session_id is None:
            return
        said = self.said[0]
        message = NewMessage(
            role="assistant",
            content="".join(said.text),
            id=self.id,
            model=self.model.name,
            finish_reason=reason or said.finish_reason,
            sources=None if self.sources is None else self.sources.model_dump(),
            usage=self.usage().model_dump(),
        )
        storing = self.service.store.append(self.caller.owner, self.body.session_id, [message], self.parent_id)
        try:
            await asyncio.shield(asyncio.ensure_future(storing))
        except StoreUnavailable as error:
            raise no_store() from error

    def close(self) -> None:
        """Give back the place, the session and the quota."""
        self.stack.close()


async def begin(service: Service, caller: Caller, body: ChatRequest) -> Turn:
    """Put a request's job under way; the user's words are stored before. Raises ApiError."""
    began = time.monotonic()
    model = service.model(body.model)
    _check(service, body)
    with ExitStack() as stack:
        stack.enter_context(service.quotas.one_more(caller.client))
        history: list[MessageRow] = []
        parent_id = None
        if body.session_id is not None:
            stack.enter_context(_alone(service, caller.owner, body.session_id))
            history = await _history(service, caller.owner, body.session_id, body)
            parent_id = history[-1].id if history else None
        messages, fresh = _conversation(history, body)
        answer = service.reserve()
        stack.callback(answer.close)
        wanted = body.max_completion_tokens or body.max_tokens or service.settings.sampling.max_new_tokens
        retrieved = await _retrieve(service, model, body, messages, wanted)
        if retrieved is not None and retrieved.context:
            messages = _with_context(messages, retrieved.context)
        if sum(len(message.content) for message in messages) > LONG_CHARS:
            fitted = await asyncio.to_thread(model.fit, messages, wanted)
        else:
            fitted = model.fit(messages, wanted)
        params = engine_params(
            body,
            service.settings.sampling,
            model,
            max_new_tokens=min(wanted, model.context_length - len(fitted.prompt_ids)),
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        )
        if body.session_id is not None:
            parent_id = await _store(service, caller.owner, body.session_id, fresh, parent_id)
        service.spec.send(answer, model.name, [Prompt(fitted.prompt_ids, params, n=body.n or 1)])
        return Turn(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            service=service,
            caller=caller,
            body=body,
            model=model,
            answer=answer,
            fitted=fitted,
            sources=_sources(retrieved),
            parent_id=parent_id,
            said=[Said() for _ in range(body.n or 1)],
            began=began,
            stack=stack.pop_all(),
        )


def _check(service: Service, body: ChatRequest) -> None:
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
    if body.messages[-1].role != "user":
        raise ApiError(400, "The last message must be the user's.", param="messages", code="invalid_messages")
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


@contextmanager
def _alone(service: Service, owner: str, session_id: str) -> Generator[None]:
    session = (owner, session_id)
    if session in service.busy_sessions:
        raise ApiError(
            409,
            "An answer in this conversation is still under way.",
            param="session_id",
            code="session_busy",
            retry_after=1,
        )
    service.busy_sessions.add(session)
    try:
        yield
    finally:
        service.busy_sessions.discard(session)


async def _history(service: Service, owner: str, session_id: str, body: ChatRequest) -> list[MessageRow]:
    """The stored messages that lead to the request's, oldest first."""
    try:
        rows = await service.store.messages(owner, session_id)
    except StoreUnavailable as error:
        raise no_store() from error
    by_id = {row.id: row for row in rows}
    if "parent_id" not in body.model_fields_set:
        parent_id = rows[-1].id if rows else None
    else:
        parent_id = body.parent_id
        if parent_id is not None and parent_id not in by_id:
            raise ApiError(404, "There is no such message in this conversation.", param="parent_id", code="not_found")
    chain: list[MessageRow] = []
    while parent_id is not None:
        chain.append(by_id[parent_id])
        parent_id = by_id[parent_id].parent_id
    return chain[::-1]


def _conversation(history: Sequence[MessageRow], body: ChatRequest) -> tuple[list[Message], list[NewMessage]]:
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
        for m in body.messages
        if m.role in ("user", "assistant")
    ]
    messages = ([] if system is None else [Message("system", system)]) + past + spoken
    fresh = [NewMessage(message.role, message.content, new_message_id()) for message in spoken]
    if given and stored[-1:] != [system] and system is not None:
        fresh.insert(0, NewMessage("system", system, new_message_id()))
    return messages, fresh


async def _retrieve(
    service: Service, model: ServedModel, body: ChatRequest, messages: Sequence[Message], wanted: int
) -> Retrieved | None:
    if service.retriever is None or body.search is False:
        return None
    kept = [messages[-1].content] + ([messages[0].content] if messages[0].role == "system" else [])
    room = model.prompt_budget(wanted) - sum(map(model.count_tokens, kept)) - 64  # 64: what a template adds
    retrieved = await service.retriever.retrieve(messages, budget_tokens=max(0, room), count_tokens=model.count_tokens)
    if not retrieved.searched:
        return None
    service.metrics.searches.labels("found" if retrieved.sources else "nothing").inc()
    return retrieved


def _with_context(messages: Sequence[Message], context: str) -> list[Message]:
    """The newest message is the user's; it is what the sources are for."""
    return [*messages[:-1], replace(messages[-1], context=context)]


def _sources(retrieved: Retrieved | None) -> Sources | None:
    if retrieved is None:
        return None
    return Sources(
        query=retrieved.query,
        provider=retrieved.provider,
        note=retrieved.note,
        sources=[
            Source(id=s.id, title=s.title, url=s.url, site=s.site, passage=s.passage, score=s.score)
            for s in retrieved.sources
        ],
    )


async def _store(
    service: Service, owner: str, session_id: str, messages: Sequence[NewMessage], parent_id: str | None
) -> str:
    try:
        await service.store.append(owner, session_id, messages, parent_id)
    except StoreUnavailable as error:
        raise no_store() from error
    return messages[-1].id
