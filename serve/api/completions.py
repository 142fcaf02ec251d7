"""Raw completions: texts or token ids go to the model as they stand; `echo` gives their log-probabilities."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response

from serve.api.auth import Caller, CallerDep
from serve.api.errors import ApiError
from serve.api.schemas.requests import CompletionRequest
from serve.api.schemas.responses import Completion, Usage
from serve.api.service import Service, ServiceDep
from serve.generation.echo import Echo, beside_the_loop, choice, with_choices, write_echo
from serve.generation.event_logs import whole_answer_bytes
from serve.generation.event_stream import EventLog
from serve.generation.logprobs import TokenLists
from serve.generation.prompt import LONG_CHARS
from serve.generation.sampling import engine_params
from serve.generation.streaming import STREAMED, LastEventId, reader_has_caught_up, replay, stream, whole
from serve.middleware.content_type import TypedRoute
from serve.models.served_model import ServedModel
from serve.settings import Sampling
from serve.workers.client import RequestHandle
from serve.workers.messages import Idle, PromptInput, Score, Scored, Token

DEFAULT_MAX_TOKENS = 16  # OpenAI's
AS_IT_IS = Sampling(
    max_new_tokens=DEFAULT_MAX_TOKENS, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0
)
"""Where a request says nothing, the model's own distribution; the server's defaults are for chats."""
MOST_ANSWERS = 128  # prompts times n
LOGPROB_BYTES = 300  # for each log-probability, until the answer is read
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
    job = await _begin(service, caller, body)
    if not body.stream:
        return await whole(request, service, job, _collect(job))
    return stream(service, caller, job.id, lambda log: _write(job, log), job.release)


@dataclass(slots=True)
class _Continued:
    """One continuation so far: pieces of text, each with its token, as they are reported."""

    prompt_ids: list[int]
    pieces: list[tuple[str, Token]] = field(default_factory=list[tuple[str, Token]])  # of an answer that is whole
    made: int = 0  # tokens
    finish_reason: str | None = None


@dataclass(slots=True)
class _Job:
    """A request under way; `close()` and then `release()` must be called."""

    id: str
    created: int
    service: Service
    caller: Caller
    body: CompletionRequest
    model: ServedModel
    answer: RequestHandle
    prompts: list[list[int]]
    continued: list[_Continued]
    began: float
    stack: ExitStack
    scores: dict[int, list[Score]] = field(default_factory=dict[int, list[Score]])  # by prompt, until it is written
    echoes: dict[int, Echo] = field(default_factory=dict[int, Echo])

    async def events(self) -> AsyncIterator[Token | Idle]:
        """The tokens of all continuations. Raises ApiError when the work fails."""
        async for event in self.service.events(self.answer, self.began):
            if isinstance(event, Token):
                continued = self.continued[event.index]
                continued.finish_reason = event.finish_reason
                if event.token_id is not None:
                    continued.made += 1
                    if not self.body.stream:
                        continued.pieces.append((event.text, event))
                yield event
            elif isinstance(event, Scored):
                scores = self.scores.setdefault(event.prompt, [])
                scores += event.tokens
                if len(scores) == len(self.prompts[event.prompt]) - 1:
                    await self.echo(event.prompt)
            else:
                yield event

    async def echo(self, prompt: int) -> Echo:
        """What the answers to a prompt begin with; it is written once."""
        if prompt not in self.echoes:
            ids, scores = self.prompts[prompt], self.scores.pop(prompt, [])
            self.echoes[prompt] = (
                await beside_the_loop(
                    write_echo, ids, scores, self.model.tokenizer, logprobs=self.body.logprobs is not None
                )
                if self.body.echo
                else Echo()
            )
        return self.echoes[prompt]

    def usage(self) -> Usage:
        prompt, made = sum(map(len, self.prompts)), sum(c.made for c in self.continued)
        return Usage(prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made)

    def close(self) -> None:
        """Nothing more is made for this request."""
        if not self.answer.ended:
            self.answer.close()
        self.service.rate_limiter.spend(self.caller.client, sum(c.made for c in self.continued))
        reasons = [continued.finish_reason for continued in self.continued]
        self.service.trace_answer(self.answer, self.id, self.model, self.usage(), reasons)

    def release(self) -> None:
        """Give back the place, the quota and the memory: the client has the answer, or has been given up."""
        self.stack.close()


async def _begin(service: Service, caller: Caller, body: CompletionRequest) -> _Job:
    """Put a request's job under way. Raises ApiError."""
    began = time.monotonic()
    model = service.model(body.model)
    given = _given(body)
    n = body.n or 1
    if len(given) * n > MOST_ANSWERS:
        raise ApiError(
            400, f"At most {MOST_ANSWERS} answers a request (prompts times n).", param="n", code="invalid_value"
        )
    longest = service.settings.limits.message_chars
    if any(isinstance(text, str) and len(text) > longest for text in given):
        raise ApiError(400, f"A prompt has at most {longest} characters.", param="prompt", code="prompt_too_long")
    wanted = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if not wanted and not body.echo:
        raise ApiError(
            400,
            "max_tokens is 0 and echo is not asked for: nothing is to be done.",
            param="max_tokens",
            code="invalid_value",
        )
    with ExitStack() as stack:
        stack.enter_context(service.rate_limiter.admit(caller.client))
        # Before anything is waited for, so that a full server is seen as full at once.
        answer = service.reserve(model, caller)
        stack.callback(answer.close)
        if sum(len(text) for text in given if isinstance(text, str)) > LONG_CHARS:
            prompts = await asyncio.to_thread(_prompts, given, model, wanted)
        else:
            prompts = _prompts(given, model, wanted)
        _check_prompt_logprobs(body, sum(map(len, prompts)) * n, service.settings.limits.prompt_logprobs)
        stack.enter_context(service.logs.reserved(_kept_bytes(body, prompts, wanted, model, service)))
        service.rate_limiter.spend_prompt(caller.client, sum(map(len, prompts)))
        jobs: list[PromptInput] = []
        for ids in prompts:
            params = None
            if wanted:
                room = model.context_length - len(ids)
                params = engine_params(body, AS_IT_IS, model, max_new_tokens=min(wanted, room), logprobs=body.logprobs)
            score_top = body.logprobs if body.echo and len(ids) > 1 else None
            jobs.append(PromptInput(ids, params, n=n, score_top=score_top))
        service.client.submit(answer, jobs)
        return _Job(
            id=f"cmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            service=service,
            caller=caller,
            body=body,
            model=model,
            answer=answer,
            prompts=prompts,
            continued=[_Continued(ids) for ids in prompts for _ in range(n)],
            began=began,
            stack=stack.pop_all(),
        )


def _kept_bytes(
    body: CompletionRequest, prompts: Sequence[Sequence[int]], wanted: int, model: ServedModel, service: Service
) -> int:
    """What the answer takes at most of memory until its client has read it."""
    if body.stream:
        return service.settings.limits.answer_bytes
    made = sum(min(wanted, model.context_length - len(ids)) for ids in prompts)
    echoed = sum(map(len, prompts)) if body.echo else 0
    return whole_answer_bytes((made + echoed) * (body.n or 1), body.logprobs, LOGPROB_BYTES)


def _check_prompt_logprobs(body: CompletionRequest, tokens: int, most: int) -> None:
    """Refuse an answer with more of them than the server writes; `tokens` are echoed. Raises ApiError."""
    if not body.echo or body.logprobs is None:
        return
    count = tokens * (body.logprobs + 1)
    if count > most:
        raise ApiError(
            400,
            f"The answer would echo {count} log-probabilities (prompt tokens times n times logprobs + 1), and the "
            f"server gives at most {most}; send fewer or shorter prompts, or ask for a smaller n or logprobs.",
            param="logprobs",
            code="too_many_logprobs",
        )


def _given(body: CompletionRequest) -> list[str | list[int]]:
    """The prompts, of which a request may have one or several."""
    given: Any = body.prompt
    return [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)


def _prompts(given: Sequence[str | list[int]], model: ServedModel, wanted: int) -> list[list[int]]:
    """Every prompt as token ids; an empty text is the end-of-text token, as GPT-2 was trained. Raises ApiError."""
    prompts: list[list[int]] = []
    for text in given:
        ids: list[int] = (model.tokenizer.encode(text) if isinstance(text, str) else text) or [model.tokenizer.eot_id]
        if max(ids) >= model.tokenizer.vocab_size:
            raise ApiError(
                400,
                f"prompt has token {max(ids)}; the model has {model.tokenizer.vocab_size} tokens.",
                param="prompt",
                code="invalid_value",
            )
        most = model.context_length - (1 if wanted else 0)
        if len(ids) > most:
            raise ApiError(
                400,
                f"A prompt has {len(ids)} tokens and there is room for {most}.",
                param="prompt",
                code="context_length_exceeded",
            )
        prompts.append(ids)
    return prompts


async def _collect(job: _Job) -> bytes:
    async for _ in job.events():
        pass
    for prompt in range(len(job.prompts)):
        await job.echo(prompt)
    return await beside_the_loop(_whole, job)


def _whole(job: _Job) -> bytes:
    choices = (_choice(job, i, continued) for i, continued in enumerate(job.continued))
    head = {"id": job.id, "object": "text_completion", "created": job.created, "model": job.model.name}
    return b"".join(with_choices(head, choices, {"usage": job.usage().model_dump()}))


def _choice(job: _Job, index: int, continued: _Continued) -> list[bytes]:
    echo = job.echoes[index // (job.body.n or 1)]
    answered = None
    if job.body.logprobs is not None:
        answered = TokenLists(job.model.tokenizer, echo.offset)
        for _, token in continued.pieces:
            answered.add(token)
    text = "".join(text for text, _ in continued.pieces)
    reason = "stop" if continued.finish_reason == "stop" else "length"
    return choice(index, echo, text, answered and answered.lists, reason)


async def _write(job: _Job, log: EventLog) -> None:
    try:
        await _write_events(job, log)
    finally:
        job.close()


async def _write_events(job: _Job, log: EventLog) -> None:
    head = {"id": job.id, "object": "text_completion", "created": job.created, "model": job.model.name}
    include_usage = bool(job.body.stream_options and job.body.stream_options.include_usage)
    more: dict[str, Any] = {"usage": None} if include_usage else {}

    def add(index: int, echo: Echo, text: str, logprobs: TokenLists | None, finish_reason: str | None) -> None:
        parts = choice(index, echo, text, logprobs and logprobs.lists, finish_reason)
        log.add(b"".join(with_choices(head, [parts], more)).decode())

    offsets = [0] * len(job.continued)
    echoed: set[int] = set()

    async def echo(index: int) -> None:
        """What was given goes before what is made."""
        if not job.body.echo or index in echoed:
            return
        echoed.add(index)
        part = await job.echo(index // (job.body.n or 1))
        offsets[index] = part.offset
        add(index, part, "", None if job.body.logprobs is None else TokenLists(job.model.tokenizer), None)

    async for event in job.events():
        if isinstance(event, Idle):
            log.comment()
            continue
        await echo(event.index)
        tokens = None
        if job.body.logprobs is not None:
            tokens = TokenLists(job.model.tokenizer, offsets[event.index])
            tokens.add(event)
            offsets[event.index] = tokens.offset
        if event.text or event.finish_reason or (tokens is not None and tokens.lists.tokens):
            add(event.index, Echo(), event.text, tokens, event.finish_reason)
        await reader_has_caught_up(log, job.answer)
    for index in range(len(job.continued)):
        if index not in echoed and job.body.echo:
            await echo(index)
            add(index, Echo(), "", None, "length")
            await reader_has_caught_up(log, job.answer)
    if include_usage:
        log.add(json.dumps(head | {"choices": [], "usage": job.usage().model_dump()}))
