"""Raw completions: texts or token ids go to the model as they stand; `echo` gives their log-probabilities."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response

from serve.http.answers import Completion, CompletionChoice, CompletionLogprobs, Usage
from serve.http.auth import Caller, Known
from serve.http.chat import STREAMED, LastEventId, alternative, replay, while_connected
from serve.http.errors import ApiError, error_body
from serve.http.models import ServedModel
from serve.http.sampling import engine_params
from serve.http.schemas import CompletionRequest
from serve.http.service import Service, Shared
from serve.http.sse import EventLog, EventStream
from serve.inference.spec import Answer
from serve.inference.wire import Failure, Idle, Prompt, Scored, Token
from serve.settings import Sampling

DEFAULT_MAX_TOKENS = 16  # OpenAI's
AS_IT_IS = Sampling(DEFAULT_MAX_TOKENS, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
"""Where a request says nothing, the model's own distribution; the server's defaults are for chats."""
MOST_ANSWERS = 128  # prompts times n
router = APIRouter(tags=["completions"])


@router.post("/v1/completions", response_model=Completion, responses={200: STREAMED})
async def completions(
    body: CompletionRequest, request: Request, shared: Shared, caller: Known, last_event_id: LastEventId = None
) -> Completion | Response:
    """Continue texts or token ids as OpenAI's older API does, whole or with `stream: true` in pieces."""
    if body.stream and last_event_id:
        return replay(shared, caller, last_event_id)
    job = _begin(shared, caller, body)
    if not body.stream:
        try:
            return await while_connected(request, _collect(job))
        finally:
            job.close()
    log = EventLog(job.id, caller.owner, shared.settings.resume_s)
    shared.logs.add(log)
    log.write_with(lambda log: _write(job, log))
    return EventStream(log)


@dataclass(slots=True)
class _Continued:
    """One continuation so far: pieces of text, each with its token, as they are reported."""

    prompt_ids: list[int]
    pieces: list[tuple[str, Token]] = field(default_factory=list[tuple[str, Token]])
    finish_reason: str | None = None


@dataclass(slots=True)
class _Job:
    """A request under way; `close()` must be called."""

    id: str
    created: int
    service: Service
    caller: Caller
    body: CompletionRequest
    model: ServedModel
    answer: Answer
    prompts: list[list[int]]
    continued: list[_Continued]
    scores: dict[int, Scored]
    began: float
    stack: ExitStack

    async def events(self) -> AsyncIterator[Token | Idle]:
        """The tokens of all continuations. Raises ApiError when the work fails."""
        first = True
        async for event in self.answer.events():
            if isinstance(event, Token):
                if first:
                    self.service.metrics.first_token.observe(time.monotonic() - self.began)
                    first = False
                continued = self.continued[event.index]
                continued.finish_reason = event.finish_reason
                if event.token_id is not None:
                    continued.pieces.append((event.text, event))
                yield event
            elif isinstance(event, Scored):
                self.scores[event.prompt] = event
            elif isinstance(event, Idle):
                yield event
            elif isinstance(event, Failure):
                raise ApiError(event.status, event.message, code=event.code, retry_after=1)
        self.service.metrics.answer_seconds.observe(time.monotonic() - self.began)

    def usage(self) -> Usage:
        prompt, made = sum(map(len, self.prompts)), sum(len(c.pieces) for c in self.continued)
        return Usage(prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made)

    def close(self) -> None:
        """Give back the place and the quota."""
        self.service.quotas.spend(self.caller.client, sum(len(c.pieces) for c in self.continued))
        self.stack.close()
        reasons = [continued.finish_reason for continued in self.continued]
        self.service.trace_answer(self.answer, self.id, self.model, self.usage(), reasons)


def _begin(service: Service, caller: Caller, body: CompletionRequest) -> _Job:
    model = service.model(body.model)
    prompts = _prompts(body, model, service)
    n = body.n or 1
    if len(prompts) * n > MOST_ANSWERS:
        raise ApiError(
            400, f"At most {MOST_ANSWERS} answers a request (prompts times n).", param="n", code="invalid_value"
        )
    wanted = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if not wanted and not body.echo:
        raise ApiError(
            400,
            "max_tokens is 0 and echo is not asked for: nothing is to be done.",
            param="max_tokens",
            code="invalid_value",
        )
    jobs: list[Prompt] = []
    for ids in prompts:
        params = None
        if wanted:
            room = model.context_length - len(ids)
            params = engine_params(body, AS_IT_IS, model, max_new_tokens=min(wanted, room), logprobs=body.logprobs)
        score_top = body.logprobs if body.echo and len(ids) > 1 else None
        jobs.append(Prompt(ids, params, n=n, score_top=score_top))
    with ExitStack() as stack:
        stack.enter_context(service.quotas.one_more(caller.client))
        answer = service.reserve()
        stack.callback(answer.close)
        service.spec.send(answer, model.key, jobs)
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
            scores={},
            began=time.monotonic(),
            stack=stack.pop_all(),
        )


def _prompts(body: CompletionRequest, model: ServedModel, service: Service) -> list[list[int]]:
    """Every prompt as token ids; an empty text is the end-of-text token, as GPT-2 was trained. Raises ApiError."""
    given = body.prompt
    texts: list[Any] = [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)
    longest = service.settings.limits.message_chars
    prompts: list[list[int]] = []
    for text in texts:
        if isinstance(text, str) and len(text) > longest:
            raise ApiError(400, f"A prompt has at most {longest} characters.", param="prompt", code="prompt_too_long")
        ids: list[int] = (model.tokenizer.encode(text) if isinstance(text, str) else text) or [model.tokenizer.eot_id]
        if max(ids) >= model.tokenizer.vocab_size:
            raise ApiError(
                400,
                f"prompt has token {max(ids)}; the model has {model.tokenizer.vocab_size} tokens.",
                param="prompt",
                code="invalid_value",
            )
        most = model.context_length - (0 if body.max_tokens == 0 else 1)
        if len(ids) > most:
            raise ApiError(
                400,
                f"A prompt has {len(ids)} tokens and there is room for {most}.",
                param="prompt",
                code="context_length_exceeded",
            )
        prompts.append(ids)
    return prompts


async def _collect(job: _Job) -> Completion:
    async for _ in job.events():
        pass
    choices = [_choice(job, i, continued) for i, continued in enumerate(job.continued)]
    return Completion(id=job.id, created=job.created, model=job.model.name, choices=choices, usage=job.usage())


def _choice(job: _Job, index: int, continued: _Continued) -> CompletionChoice:
    text = "".join(text for text, _ in continued.pieces)
    echoed = job.model.tokenizer.decode(continued.prompt_ids) if job.body.echo else ""
    logprobs = None
    if job.body.logprobs is not None:
        logprobs = _Tokens(job)
        if job.body.echo:
            logprobs.add_prompt(continued.prompt_ids, job.scores.get(index // (job.body.n or 1)))
        for _, token in continued.pieces:
            logprobs.add(token)
    return CompletionChoice(
        index=index,
        text=echoed + text,
        logprobs=None if logprobs is None else logprobs.done(),
        finish_reason="stop" if continued.finish_reason == "stop" else "length",
    )


class _Tokens:
    """Gathers OpenAI's parallel lists."""

    def __init__(self, job: _Job, offset: int = 0) -> None:
        self._job, self.offset = job, offset
        self._lists = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])

    def add_prompt(self, ids: list[int], scored: Scored | None) -> None:
        """The prompt's own tokens; nothing comes before the first, so it has no probability."""
        scores = [] if scored is None else scored.tokens
        for token_id, score in zip(ids, [None, *scores], strict=True):
            self._add(token_id, *(score or (None, None)))

    def add(self, token: Token) -> None:
        """One generated token; also the one that ends a text, as programs count on an entry for each token made."""
        if token.token_id is not None:
            self._add(token.token_id, token.logprob, token.top_logprobs)

    def _add(self, token_id: int, logprob: float | None, top: tuple[tuple[int, float], ...] | None) -> None:
        tokenizer = self._job.model.tokenizer
        text = alternative(token_id, 0.0, tokenizer).token
        best = (
            {}
            if logprob is None
            else {a.token: a.logprob for a in (alternative(i, p, tokenizer) for i, p in top or ())}
        )
        self._lists.tokens.append(text)
        self._lists.token_logprobs.append(logprob if logprob is None else max(logprob, -9999.0))
        self._lists.top_logprobs.append(None if logprob is None else best)
        self._lists.text_offset.append(self.offset)
        self.offset += len(text)

    def done(self) -> CompletionLogprobs:
        return self._lists


async def _write(job: _Job, log: EventLog) -> None:
    try:
        await _write_events(job, log)
    except asyncio.CancelledError:
        log.add(json.dumps(error_body(499, "The answer was stopped.", code="cancelled")), event="error")
        raise
    except ApiError as error:
        log.add(json.dumps(error.body()), event="error")
    finally:
        log.add("[DONE]")
        job.close()
        job.service.logs.forget_later(log)


async def _write_events(job: _Job, log: EventLog) -> None:
    head = {"id": job.id, "object": "text_completion", "created": job.created, "model": job.model.name}
    include_usage = bool(job.body.stream_options and job.body.stream_options.include_usage)
    more: dict[str, Any] = {"usage": None} if include_usage else {}

    def add(index: int, text: str, logprobs: CompletionLogprobs | None, finish_reason: str | None) -> None:
        choice = {
            "index": index,
            "text": text,
            "logprobs": None if logprobs is None else logprobs.model_dump(),
            "finish_reason": finish_reason,
        }
        log.add(json.dumps(head | {"choices": [choice]} | more, ensure_ascii=False))

    offsets = [0] * len(job.continued)
    echoed: set[int] = set()

    def echo(index: int) -> None:
        """What was given goes before what is made."""
        if not job.body.echo or index in echoed:
            return
        echoed.add(index)
        continued = job.continued[index]
        tokens = None if job.body.logprobs is None else _Tokens(job)
        if tokens is not None:
            tokens.add_prompt(continued.prompt_ids, job.scores.get(index // (job.body.n or 1)))
            offsets[index] = tokens.offset
        add(index, job.model.tokenizer.decode(continued.prompt_ids), tokens and tokens.done(), None)

    async for event in job.events():
        if isinstance(event, Idle):
            log.comment()
            continue
        echo(event.index)
        tokens = None
        if job.body.logprobs is not None:
            tokens = _Tokens(job, offsets[event.index])
            tokens.add(event)
            offsets[event.index] = tokens.offset
        if event.text or event.finish_reason or (tokens is not None and tokens.done().tokens):
            add(event.index, event.text, tokens and tokens.done(), event.finish_reason)
    for index in range(len(job.continued)):
        if index not in echoed and job.body.echo:
            echo(index)
            add(index, "", None, "length")
    if include_usage:
        log.add(json.dumps(head | {"choices": [], "usage": job.usage().model_dump()}))
