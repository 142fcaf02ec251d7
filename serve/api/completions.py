"""Text completions: the model continues texts or token ids as they are; `echo` returns their log-probabilities."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from serve.api.auth import CallerDep
from serve.api.schemas.requests import CompletionRequest
from serve.api.schemas.responses import Completion
from serve.api.service import ServiceDep
from serve.generation.event_stream import EventStream
from serve.generation.format import Format
from serve.generation.generation import Generation, replay
from serve.generation.logprobs import COLUMNS, Echo, ParallelLists, to_json, write_echo, write_on_thread
from serve.generation.prompt import prepare_completion, validate_completion
from serve.generation.responses import STREAMED, LastEventId
from serve.middleware.cors import TypedRoute
from serve.workers.messages import Score, Scored, Token

router = APIRouter(tags=["completions"], route_class=TypedRoute)


@router.post("/v1/completions", response_model=Completion, responses={200: STREAMED})
async def completions(
    body: CompletionRequest,
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    last_event_id: LastEventId = None,
) -> Response:
    """Continue texts or token ids as OpenAI's older API does, whole or with `stream: true` in pieces."""
    if body.stream and last_event_id:
        return replay(service, caller, last_event_id)
    model = service.model(body.model)
    validate_completion(service, body)
    generation = await Generation.start(
        service,
        caller,
        model,
        lambda: prepare_completion(service, model, body),
        stream=bool(body.stream),
        prefix="cmpl",
    )
    format = CompletionFormat(generation, body)
    return generation.stream(format) if body.stream else await generation.whole(request, format)


class CompletionFormat(Format):
    """Writes a generation as a text completion, or as its chunks.

    Objects are written in parts, so that an echoed prompt is copied once, into the answer.
    """

    def __init__(self, generation: Generation, body: CompletionRequest) -> None:
        self._generation, self._body = generation, body
        self._n = body.n or 1
        self._head = {
            "id": generation.id,
            "object": "text_completion",
            "created": generation.created,
            "model": generation.model.name,
        }
        self._include_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._tail: dict[str, Any] = {"usage": None} if self._include_usage else {}
        self._continuous = bool(body.stream_options and body.stream_options.continuous_usage_stats)
        self._scores: dict[int, list[Score]] = {}  # by prompt, until its echo is written
        self._echoes: dict[int, Echo] = {}  # by prompt
        self._echoed: set[int] = set()  # answers whose echo is in the stream
        self._offsets = [0] * len(generation.choices)  # of each answer's next token in its text

    async def add_scores(self, scored: Scored) -> None:
        """Add log-probabilities of a prompt's tokens; write its echo once they are complete."""
        scores = self._scores.setdefault(scored.prompt, [])
        scores += scored.tokens
        if len(scores) == len(self._generation.prepared.inputs[scored.prompt].ids) - 1:
            await self._echo(scored.prompt)

    async def body(self) -> bytes:
        """Return the text completion."""
        for prompt in range(len(self._generation.prepared.inputs)):
            await self._echo(prompt)
        return await write_on_thread(self._completion)

    def _completion(self) -> bytes:
        choices: list[list[bytes]] = []
        for index, choice in enumerate(self._generation.choices):
            echo = self._echoes[index // self._n]
            logprobs = self._parallel_lists(echo.offset)
            for token in choice.tokens:
                if logprobs is not None:
                    logprobs.add(token)
            reason = "stop" if choice.finish_reason == "stop" else "length"
            choices.append(_choice(index, echo, choice.generated_text(), logprobs, reason))
        return b"".join(_completion_object(self._head, choices, {"usage": self._generation.usage().model_dump()}))

    def write_start(self, stream: EventStream) -> None:
        """Write nothing: an echo comes before its answer's first token."""

    async def write_token(self, stream: EventStream, token: Token) -> None:
        """Write a chunk with the token's text and log-probability, after the answer's echo."""
        await self._write_echo(stream, token.index)
        logprobs = self._parallel_lists(self._offsets[token.index])
        if logprobs is not None:
            logprobs.add(token)
            self._offsets[token.index] = logprobs.offset
        if token.text or token.finish_reason or (logprobs is not None and logprobs.lists.tokens):
            self._write_chunk(stream, token.index, Echo(), token.text, logprobs, token.finish_reason)

    async def write_end(self, stream: EventStream) -> None:
        """Write the echoes of prompts for which nothing was generated, and the usage."""
        for index in range(len(self._generation.choices)):
            if self._body.echo and index not in self._echoed:
                await self._write_echo(stream, index)
                self._write_chunk(stream, index, Echo(), "", None, "length")
                await self._generation.wait_for_readers(stream)
        if self._include_usage:
            timing = self._generation.timing()
            extra = {} if timing is None else {"timing": timing.model_dump()}
            usage = {"choices": [], "usage": self._generation.usage().model_dump()}
            stream.add(json.dumps(self._head | usage | extra))

    async def _echo(self, prompt: int) -> Echo:
        """Return the echo of a prompt; it is written once."""
        if prompt not in self._echoes:
            ids, scores = self._generation.prepared.inputs[prompt].ids, self._scores.pop(prompt, [])
            tokenizer, logprobs = self._generation.model.tokenizer, self._body.logprobs is not None
            write = partial(write_echo, ids, scores, tokenizer, logprobs=logprobs)
            self._echoes[prompt] = await write_on_thread(write) if self._body.echo else Echo()
        return self._echoes[prompt]

    async def _write_echo(self, stream: EventStream, index: int) -> None:
        """Write an answer's echo, unless it is in the stream already."""
        if not self._body.echo or index in self._echoed:
            return
        self._echoed.add(index)
        echo = await self._echo(index // self._n)
        self._offsets[index] = echo.offset
        self._write_chunk(stream, index, echo, "", self._parallel_lists(), None)

    def _parallel_lists(self, offset: int = 0) -> ParallelLists | None:
        return None if self._body.logprobs is None else ParallelLists(self._generation.model.tokenizer, offset)

    def _write_chunk(
        self,
        stream: EventStream,
        index: int,
        echo: Echo,
        text: str,
        logprobs: ParallelLists | None,
        finish_reason: str | None,
    ) -> None:
        choice = _choice(index, echo, text, logprobs, finish_reason)
        tail = {"usage": self._generation.usage().model_dump()} if self._continuous else self._tail
        stream.add(b"".join(_completion_object(self._head, [choice], tail)).decode())


def _choice(
    index: int, echo: Echo, text: str, logprobs: ParallelLists | None, finish_reason: str | None
) -> list[bytes]:
    """Return one choice, or a piece of it, as parts of JSON."""
    parts = [f'{{"index": {index}, "text": "'.encode(), echo.text, to_json(text)[1:-1], b'", "logprobs": ']
    if logprobs is None:
        parts.append(b"null")
    else:
        for name, echoed, own in zip(COLUMNS, echo.columns, logprobs.columns(), strict=True):
            before = "{" if name == COLUMNS[0] else ", "
            parts += [f'{before}"{name}": ['.encode(), echoed, b", " if echoed and own else b"", own, b"]"]
        parts.append(b"}")
    return [*parts, b', "finish_reason": ', to_json(finish_reason), b"}"]


def _completion_object(
    head: Mapping[str, object], choices: Iterable[list[bytes]], tail: Mapping[str, object]
) -> list[bytes]:
    """Return a text completion as parts of JSON."""
    parts = [to_json(head)[:-1], b', "choices": [']
    for number, choice in enumerate(choices):
        parts += [b", ", *choice] if number else choice
    return [*parts, b"], " if tail else b"]", to_json(tail)[1:]]
