"""Chat completions: OpenAI's request and response, streamed or whole, and our own stream on top."""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Request, Response

from resonance.tokenizer import Tokenizer
from serve.http.answers import (
    Alternative,
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    Logprobs,
    NotSearched,
    TokenLogprob,
)
from serve.http.auth import Caller, Known
from serve.http.errors import GONE, STORE_UNAVAILABLE, ApiError, error_body
from serve.http.schemas import ChatRequest
from serve.http.service import Service, Shared
from serve.http.sse import EventLog, EventStream
from serve.http.turn import Turn, begin
from serve.inference.wire import Idle, Token

router = APIRouter(tags=["chat"])
LastEventId = Annotated[str | None, Header(description="Replay a stream's events after this one instead.")]
STREAMED = {
    "content": {"text/event-stream": {}},
    "description": "The answer, or its events.",
}
OUR_EVENTS = {
    "content": {
        "text/event-stream": {
            "x-events": {
                "sources": {"$ref": "#/components/schemas/Sources"},
                "search": {"$ref": "#/components/schemas/NotSearched"},
                "citations": {"$ref": "#/components/schemas/Citations"},
                "error": {"$ref": "#/components/schemas/ErrorBody"},
            }
        }
    },
    "description": "OpenAI's chunks, and events of our own by name.",
}
T = TypeVar("T")


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses={200: STREAMED})
async def chat_completions(
    body: ChatRequest, request: Request, shared: Shared, caller: Known, last_event_id: LastEventId = None
) -> ChatCompletion | Response:
    """Answer a conversation as OpenAI's API does, whole or with `stream: true` in pieces."""
    if body.stream:
        return await _stream(shared, caller, body, last_event_id, ours=False)
    turn = await begin(shared, caller, body)
    try:
        return await while_connected(request, _collect(turn))
    finally:
        turn.close()


@router.post("/v1/chat/stream", response_class=Response, responses={200: OUR_EVENTS})
async def chat_stream(body: ChatRequest, shared: Shared, caller: Known, last_event_id: LastEventId = None) -> Response:
    """Answer a conversation in server-sent events.

    OpenAI's chunks; where a search ran, `event: sources` (Sources) before the first and `event: citations` (Citations)
    before the last one of each answer; `event: error` when something fails. The end is `data: [DONE]`.
    """
    return await _stream(shared, caller, body, last_event_id, ours=True)


async def _stream(
    shared: Service, caller: Caller, body: ChatRequest, last_event_id: str | None, *, ours: bool
) -> EventStream:
    if last_event_id:
        return replay(shared, caller, last_event_id)
    turn = await begin(shared, caller, body)
    log = EventLog(turn.id, caller.owner, shared.settings.resume_s)
    shared.logs.add(log)
    log.write_with(lambda log: _write(turn, log, ours=ours))
    return EventStream(log)


def replay(shared: Service, caller: Caller, last_event_id: str) -> EventStream:
    """What a client has missed of a stream since an event. Raises ApiError 404 when it is not kept any more."""
    name, _, number = last_event_id.rpartition(":")
    log = shared.logs.find(name, caller.owner)
    if log is None or not number.isascii() or not number.isdigit():
        raise ApiError(
            404, "There is no stream with this event, or no longer.", param="Last-Event-ID", code="stream_gone"
        )
    return EventStream(log, after=int(number))


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Do the work as long as the client is there; cancel it and raise ApiError 499 when it goes."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, GONE, code="client_gone")
        return working.result()
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _collect(turn: Turn) -> ChatCompletion:
    try:
        async for _ in turn.events():
            pass
    except asyncio.CancelledError:
        with suppress(ApiError):
            await turn.keep("cancelled")
        raise
    except ApiError:
        with suppress(ApiError):
            await turn.keep("error")
        raise
    await turn.keep()
    tokenizer = turn.model.tokenizer
    choices = [
        ChatChoice(
            index=i,
            message=AnswerMessage(content=said.written()),
            logprobs=Logprobs(content=[logprob_of(token, tokenizer) for token in said.tokens if _counts(token, turn)])
            if turn.body.logprobs
            else None,
            finish_reason="length" if said.finish_reason == "length" else "stop",
        )
        for i, said in enumerate(turn.said)
    ]
    return ChatCompletion(
        id=turn.id,
        created=turn.created,
        model=turn.model.name,
        choices=choices,
        usage=turn.usage(),
        sources=turn.sources(),
        session_id=turn.body.session_id,
    )


async def _write(turn: Turn, log: EventLog, *, ours: bool) -> None:
    """Write an answer's events into its log."""
    try:
        await _write_events(turn, log, ours=ours)
    except asyncio.CancelledError:
        log.add(json.dumps(error_body(499, "The answer was stopped.", code="cancelled")), event="error")
        with suppress(ApiError):
            await turn.keep("cancelled")
        raise
    except ApiError as error:
        log.add(json.dumps(error.body()), event="error")
        if error.code != STORE_UNAVAILABLE:
            with suppress(ApiError):
                await turn.keep("error")
    finally:
        log.add("[DONE]")
        turn.close()
        turn.service.logs.forget_later(log)


async def _write_events(turn: Turn, log: EventLog, *, ours: bool) -> None:
    options = turn.body.stream_options
    include_usage = ours if options is None or options.include_usage is None else options.include_usage
    chunk = _Chunk(turn, include_usage)
    extra = _begin(turn, log, ours=ours)
    if turn.body.session_id is not None:
        extra |= {"session_id": turn.body.session_id, "parent_id": turn.parent_id}
    for i in range(len(turn.said)):
        log.add(chunk.line(i, {"role": "assistant", "content": ""}, **extra))
    ended: list[tuple[int, str]] = []
    async for event in turn.events():
        if isinstance(event, Idle):
            log.comment()
            continue
        logprobs = None
        if turn.body.logprobs and _counts(event, turn):
            logprobs = {"content": [logprob_of(event, turn.model.tokenizer).model_dump()], "refusal": None}
        if event.text or logprobs:
            log.add(chunk.line(event.index, {"content": event.text}, logprobs=logprobs))
        if event.finish_reason:
            ended.append((event.index, event.finish_reason))
    await turn.keep()  # who has read the end of an answer can rely on its being stored
    for index, reason in ended:
        _end(turn, log, chunk, index, reason, ours=ours)
    if include_usage:
        log.add(chunk.usage())


def _begin(turn: Turn, log: EventLog, *, ours: bool) -> dict[str, Any]:
    """Write what was found, or why nothing was looked for; return what of it stands in the first chunk."""
    if turn.grounding is not None:
        found = turn.grounding.sources().model_dump(mode="json", exclude={"supports", "sentences"})
        if not ours:  # OpenAI's clients take every event for a chunk
            return {"sources": found}
        log.add(json.dumps(found, ensure_ascii=False), event="sources")
    elif turn.unsearched is not None and ours:
        log.add(NotSearched(reason=turn.unsearched.reason).model_dump_json(), event="search")
    return {}


def _end(turn: Turn, log: EventLog, chunk: "_Chunk", index: int, reason: str, *, ours: bool) -> None:
    """Write an answer's last chunk, and what of it each source supports."""
    extra: dict[str, Any] = {}
    if turn.grounding is not None:
        citations = turn.grounding.citations(turn.said[index].whole(), index)
        if ours:
            log.add(citations.model_dump_json(), event="citations")
        else:
            extra["citations"] = citations.model_dump(mode="json")
    log.add(chunk.line(index, {}, finish_reason=reason, **extra))


class _Chunk:
    """Writes OpenAI's chunks of one answer."""

    def __init__(self, turn: Turn, include_usage: bool) -> None:
        head = {"id": turn.id, "object": "chat.completion.chunk", "created": turn.created, "model": turn.model.name}
        self._turn, self._head, self._more = turn, head, {"usage": None} if include_usage else {}

    def line(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        **extra: Any,
    ) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return json.dumps(self._head | {"choices": [choice]} | self._more | extra, ensure_ascii=False)

    def usage(self) -> str:
        return json.dumps(self._head | {"choices": [], "usage": self._turn.usage().model_dump()}, ensure_ascii=False)


def _counts(token: Token, turn: Turn) -> bool:
    """Whether a token is one of the text; the one that ends it is not."""
    ends = (turn.model.template.end_id, turn.model.tokenizer.eot_id)
    return token.logprob is not None and not (token.finish_reason == "stop" and token.token_id in ends)


def logprob_of(token: Token, tokenizer: Tokenizer) -> TokenLogprob:
    """One token's log-probabilities in OpenAI's form."""
    assert token.token_id is not None and token.logprob is not None
    chosen = alternative(token.token_id, token.logprob, tokenizer)
    others = [alternative(token_id, logprob, tokenizer) for token_id, logprob in token.top_logprobs or ()]
    return TokenLogprob(token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes, top_logprobs=others)


def alternative(token_id: int, logprob: float, tokenizer: Tokenizer) -> Alternative:
    """A token with its log-probability; JSON has no minus infinity."""
    data = tokenizer.token_bytes(token_id)
    return Alternative(token=data.decode("utf-8", "replace"), logprob=max(logprob, -9999.0), bytes=list(data))
