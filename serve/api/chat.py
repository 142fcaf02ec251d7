"""Chat completions: OpenAI's request and response, streamed or whole, and our own stream on top."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from serve.api.auth import Caller, CallerDep
from serve.api.schemas.requests import ChatRequest
from serve.api.schemas.responses import AnswerMessage, ChatChoice, ChatCompletion, Logprobs, NotSearched
from serve.api.service import Service, ServiceDep
from serve.generation.echo import beside_the_loop
from serve.generation.event_stream import EventLog, EventStream
from serve.generation.generation import Turn, begin
from serve.generation.logprobs import logprob_of
from serve.generation.streaming import STREAMED, LastEventId, reader_has_caught_up, replay, stream, whole
from serve.middleware.content_type import TypedRoute
from serve.workers.messages import Idle, Token

router = APIRouter(tags=["chat"], route_class=TypedRoute)
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


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses={200: STREAMED})
async def chat_completions(
    body: ChatRequest, request: Request, service: ServiceDep, caller: CallerDep, last_event_id: LastEventId = None
) -> Response:
    """Answer a conversation as OpenAI's API does, whole or with `stream: true` in pieces."""
    if body.stream:
        return await _stream(service, caller, body, last_event_id, ours=False)
    turn = await begin(service, caller, body, streams=False)
    return await whole(request, service, turn, _collect(turn))


@router.post("/v1/chat/stream", response_class=Response, responses={200: OUR_EVENTS})
async def chat_stream(
    body: ChatRequest, service: ServiceDep, caller: CallerDep, last_event_id: LastEventId = None
) -> Response:
    """Answer a conversation in server-sent events.

    OpenAI's chunks; where a search ran, `event: sources` (Sources) before the first and `event: citations` (Citations)
    before the last one of each answer; `event: error` when something fails. The end is `data: [DONE]`.
    """
    return await _stream(service, caller, body, last_event_id, ours=True)


async def _stream(
    service: Service, caller: Caller, body: ChatRequest, last_event_id: str | None, *, ours: bool
) -> EventStream:
    if last_event_id:
        return replay(service, caller, last_event_id)
    turn = await begin(service, caller, body, streams=True)
    return stream(service, caller, turn.id, lambda log: _write(turn, log, ours=ours), turn.release)


async def _collect(turn: Turn) -> bytes:
    async with turn.kept():
        async for _ in turn.events():
            pass
    if turn.body.logprobs:  # as many as n x max_tokens, each with its alternatives
        return await beside_the_loop(_whole, turn)
    return _whole(turn)


def _whole(turn: Turn) -> bytes:
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
    answer = ChatCompletion(
        id=turn.id,
        created=turn.created,
        model=turn.model.name,
        choices=choices,
        usage=turn.usage(),
        sources=turn.sources(),
        session_id=turn.body.session_id,
    )
    return answer.model_dump_json().encode()


async def _write(turn: Turn, log: EventLog, *, ours: bool) -> None:
    """Write an answer's events into its log."""
    try:
        await _write_events(turn, log, ours=ours)
    finally:
        turn.close()


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
    async with turn.kept():  # who has read the end of an answer can rely on its being stored
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
            await reader_has_caught_up(log, turn.answer)
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
