"""Chat completions: OpenAI's request and response, streamed or whole, our own stream, and the prompt's preview."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from resonance.tool_calling import CallPiece
from serve.api.auth import Caller, CallerDep
from serve.api.errors import not_found
from serve.api.schemas.requests import ChatRequest
from serve.api.schemas.responses import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    Logprobs,
    PromptSize,
    PromptToken,
    RenderedPrompt,
    StoppedAnswer,
)
from serve.api.service import Service, ServiceDep
from serve.generation.choice import Choice
from serve.generation.event_stream import EventStream
from serve.generation.format import Format
from serve.generation.generation import Generation, replay
from serve.generation.logprobs import token_logprob, write_on_thread
from serve.generation.prompt import measure_chat, prepare_chat, render_chat, validate_chat
from serve.generation.responses import STREAMED, LastEventId
from serve.middleware.cors import TypedRoute
from serve.workers.messages import Scored, Token

router = APIRouter(tags=["chat"], route_class=TypedRoute)
AnswerId = Annotated[str, Path(max_length=64)]
NAMED_EVENTS = {
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
        return await _stream(service, caller, body, last_event_id, named_events=False)
    generation = await _start(service, caller, body, stream=False)
    return await generation.whole(request, ChatFormat(generation, body))


@router.post("/v1/chat/stream", response_class=Response, responses={200: NAMED_EVENTS})
async def chat_stream(
    body: ChatRequest, service: ServiceDep, caller: CallerDep, last_event_id: LastEventId = None
) -> Response:
    """Answer a conversation in server-sent events.

    OpenAI's chunks; where a search ran, `event: sources` (Sources) before the first and `event: citations` (Citations)
    before the last one of each answer; `event: error` when something fails. The end is `data: [DONE]`.
    """
    return await _stream(service, caller, body, last_event_id, named_events=True)


@router.get("/v1/chat/stream/{answer_id}", response_class=Response, responses={200: NAMED_EVENTS})
async def follow_answer(
    answer_id: AnswerId,
    service: ServiceDep,
    caller: CallerDep,
    after: Annotated[
        int | None, Query(ge=0, le=10**9, description="The number of the last event that is known.")
    ] = None,
) -> Response:
    """The events of an answer that is being written, or ended a moment ago; it need not be this client's.

    A conversation names it in `answering`. 404 when an event that follows `after` is not kept any more; without
    `after`, the events begin with the oldest one that is kept.
    """
    if after is None:
        stream = service.streams.find(answer_id, caller.owner)
        after = 0 if stream is None else stream.last_dropped
    return replay(service, caller, f"{answer_id}:{after}")


@router.delete("/v1/chat/stream/{answer_id}")
async def stop_answer(answer_id: AnswerId, service: ServiceDep, caller: CallerDep) -> StoppedAnswer:
    """Stop an answer that is being written. What there is of it is stored by the time of the response."""
    stream = service.streams.find(answer_id, caller.owner)
    if stream is None:
        raise not_found("answer")
    await stream.stop()
    return StoppedAnswer(id=answer_id)


@router.post("/v1/chat/tokens")
async def chat_tokens(body: ChatRequest, service: ServiceDep, _: CallerDep) -> PromptSize:
    """How many tokens the system prompt and the newest message of this chat request need, and how many fit.

    Nothing is generated, searched or stored, and a message that is too long is no error.
    """
    model = service.model(body.model)
    validate_chat(service, body)
    return await measure_chat(service, model, body)


@router.post("/v1/chat/prompt")
async def chat_prompt(body: ChatRequest, service: ServiceDep, caller: CallerDep) -> RenderedPrompt:
    """The prompt that this chat request would make: the turns that fit, the sources of its search, every token."""
    model = service.model(body.model)
    validate_chat(service, body)
    with service.rate_limiter.admit(caller.client):
        prompt = await render_chat(service, caller, model, body)
    ids = prompt.fitted.prompt_ids
    return RenderedPrompt(
        text=model.tokenizer.decode(ids),
        token_ids=ids,
        tokens=[PromptToken(id=i, text=model.tokenizer.token_bytes(i).decode("utf-8", "replace")) for i in ids],
        prompt_tokens=len(ids),
        messages_kept=len(prompt.fitted.messages),
        messages_dropped=prompt.fitted.dropped,
        context_length=model.context_length,
        sources=None if prompt.grounding is None else prompt.grounding.sources(),
    )


async def _start(service: Service, caller: Caller, body: ChatRequest, *, stream: bool) -> Generation:
    model = service.model(body.model)
    validate_chat(service, body)
    return await Generation.start(
        service,
        caller,
        model,
        lambda: prepare_chat(service, caller, model, body),
        stream=stream,
        prefix="chatcmpl",
        session_id=body.session_id,
    )


async def _stream(
    service: Service, caller: Caller, body: ChatRequest, last_event_id: str | None, *, named_events: bool
) -> Response:
    if last_event_id:
        return replay(service, caller, last_event_id)
    generation = await _start(service, caller, body, stream=True)
    return generation.stream(ChatFormat(generation, body, named_events=named_events))


class ChatFormat(Format):
    """Writes a generation as a chat completion, or as its chunks and, with `named_events`, our own events."""

    def __init__(self, generation: Generation, body: ChatRequest, *, named_events: bool = False) -> None:
        assert generation.prepared.chat is not None
        self._chat = generation.prepared.chat
        self._generation, self._body, self._named_events = generation, body, named_events
        include_usage = body.stream_options.include_usage if body.stream_options else None
        self._include_usage = named_events if include_usage is None else include_usage
        self._head = {
            "id": generation.id,
            "object": "chat.completion.chunk",
            "created": generation.created,
            "model": generation.model.name,
        }
        self._tail = {"usage": None} if self._include_usage else {}
        self._continuous = bool(body.stream_options and body.stream_options.continuous_usage_stats)
        self._finished: list[tuple[int, str]] = []  # answers and their finish reasons

    async def add_scores(self, scored: Scored) -> None:
        """Do nothing: chats request no log-probabilities of their prompts."""

    async def body(self) -> bytes:
        """Return the chat completion."""
        if self._body.logprobs:  # as many as n x max_tokens, each with its alternatives
            return await write_on_thread(self._completion)
        return self._completion()

    def _completion(self) -> bytes:
        generation = self._generation
        choices = [
            ChatChoice(
                index=i,
                message=_answer(choice),
                logprobs=Logprobs(
                    content=[
                        token_logprob(token, generation.model.tokenizer)
                        for token in choice.tokens
                        if self._has_logprob(token)
                    ]
                )
                if self._body.logprobs
                else None,
                finish_reason=_finish_reason(choice),
            )
            for i, choice in enumerate(generation.choices)
        ]
        completion = ChatCompletion(
            id=generation.id,
            created=generation.created,
            model=generation.model.name,
            choices=choices,
            usage=generation.usage(),
            sources=generation.sources(),
            session_id=self._body.session_id,
        )
        return completion.model_dump_json().encode()

    def write_start(self, stream: EventStream) -> None:
        """Write what the search found, or why there was none, and each answer's first chunk."""
        generation, chat = self._generation, self._chat
        extra: dict[str, Any] = {}
        if chat.grounding is not None:
            sources = chat.grounding.sources().model_dump(mode="json", exclude={"supports", "sentences"})
            if self._named_events:
                stream.add(json.dumps(sources, ensure_ascii=False), event="sources")
            else:  # OpenAI's clients take every event for a chunk
                extra["sources"] = sources
        elif chat.unsearched is not None and self._named_events:
            stream.add(chat.unsearched.event().model_dump_json(), event="search")
        if self._body.session_id is not None:
            extra |= {"session_id": self._body.session_id, "parent_id": generation.parent_id}
            if self._named_events and chat.conversation.prefix:
                extra["prefix"] = chat.conversation.prefix  # for those who follow it without having asked
        for i in range(len(generation.choices)):
            stream.add(self._chunk(i, {"role": "assistant", "content": ""}, **extra))

    async def write_token(self, stream: EventStream, token: Token) -> None:
        """Write a chunk with the token's text and log-probability."""
        logprobs = None
        if self._body.logprobs and self._has_logprob(token):
            logprob = token_logprob(token, self._generation.model.tokenizer)
            logprobs = {"content": [logprob.model_dump()], "refusal": None}
        if token.text or logprobs:
            stream.add(self._chunk(token.index, {"content": token.text}, logprobs=logprobs))
        choice = self._generation.choices[token.index]
        for piece in choice.take_pieces():
            stream.add(self._chunk(token.index, {"tool_calls": [_call_delta(choice, piece)]}))
        if token.finish_reason:
            self._finished.append((token.index, choice.finish_reason or token.finish_reason))

    async def write_end(self, stream: EventStream) -> None:
        """Write each answer's citations and last chunk, and the usage."""
        grounding = self._chat.grounding
        for index, reason in self._finished:
            extra: dict[str, Any] = {}
            if grounding is not None:
                citations = grounding.citations(self._generation.choices[index].answer_text(), index)
                if self._named_events:
                    stream.add(citations.model_dump_json(), event="citations")
                else:
                    extra["citations"] = citations.model_dump(mode="json")
            stream.add(self._chunk(index, {}, finish_reason=reason, **extra))
        if self._include_usage:
            usage = {"choices": [], "usage": self._generation.usage().model_dump()}
            timing = self._generation.timing()
            if self._named_events and timing is not None:
                usage["timing"] = timing.model_dump()
            stream.add(json.dumps(self._head | usage, ensure_ascii=False))

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        **extra: Any,
    ) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        tail = {"usage": self._generation.usage().model_dump()} if self._continuous else self._tail
        return json.dumps(self._head | {"choices": [choice]} | tail | extra, ensure_ascii=False)

    def _has_logprob(self, token: Token) -> bool:
        """Return whether the token belongs to the text; the one that ends it does not."""
        model = self._generation.model
        ends = (model.template.end_id, model.tokenizer.eot_id)
        return token.logprob is not None and not (token.finish_reason == "stop" and token.token_id in ends)


def _answer(choice: Choice) -> AnswerMessage:
    calls = choice.tool_calls()
    text = choice.generated_text()
    return AnswerMessage(content=None if calls and not text else text, tool_calls=calls)


def _finish_reason(choice: Choice) -> Literal["stop", "length", "tool_calls"]:
    if choice.finish_reason == "tool_calls":
        return "tool_calls"
    return "length" if choice.finish_reason == "length" else "stop"


def _call_delta(choice: Choice, piece: CallPiece) -> dict[str, Any]:
    """A piece of a call as OpenAI streams it: its id and name first, then its arguments in parts."""
    if piece.name is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": choice.call_ids[piece.index], "type": "function", "function": function}
