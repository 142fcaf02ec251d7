"""Asks the judge's endpoint: replies are cached on disk, failures are retried, requests in flight are bounded.

The API key goes into the request's header and nowhere else: not into the cache, an error or a result.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import stamina

from eval import EvalError
from eval.judge.endpoint import Endpoint
from resonance.cli.chat import printable
from resonance.retrieval.cache import Cache

_REFUSED = (400, 413, 422)  # about this request alone: too long, or filtered
_TRANSIENT = (408, 425, 429)  # and everything from 500 on
_REASON_CHARS = 200


class JudgeUnavailable(EvalError):
    """The endpoint cannot be reached, refuses everybody, or does not speak OpenAI's protocol."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The judge's reply; `model` is what the endpoint says it is.

    With a `refusal`, its reason, the endpoint refused this one request, and there is no text.
    """

    text: str
    model: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refusal: str | None = None

    def as_json(self) -> dict[str, object]:
        """The reply for a record, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}


class _Transient(Exception):
    """A failure that may pass; `wait` is the time that the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class JudgeClient:
    """Asks one endpoint. `cache` keeps replies by endpoint, model, prompt and parameters."""

    def __init__(self, endpoint: Endpoint, cache: Cache, api_key: str | None) -> None:
        self._endpoint = endpoint
        self._cache = cache
        self._api_key = api_key

    def ask(self, prompts: Sequence[str], repetition: int = 0) -> list[Reply]:
        """The replies, in the prompts' order; each one is in the cache as soon as it is there.

        Each `repetition` of the same prompts has another seed.

        Raises JudgeUnavailable when a request fails for good; requests in flight are completed and their replies kept.
        """
        return asyncio.run(self._ask_all(prompts, repetition))

    async def _ask_all(self, prompts: Sequence[str], repetition: int) -> list[Reply]:
        slots = asyncio.Semaphore(self._endpoint.concurrency)
        failed = asyncio.Event()
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        async with httpx.AsyncClient(headers=headers, timeout=self._endpoint.timeout) as client:

            async def ask(prompt: str) -> Reply:
                async with slots:
                    if failed.is_set():
                        raise JudgeUnavailable("An earlier request failed.")
                    try:
                        return await self._ask(client, self._endpoint.body(prompt, repetition))
                    except JudgeUnavailable:
                        failed.set()
                        raise

            unique = list(dict.fromkeys(prompts))
            outcomes = await asyncio.gather(*map(ask, unique), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        replies = dict(zip(unique, (outcome for outcome in outcomes if isinstance(outcome, Reply)), strict=True))
        return [replies[prompt] for prompt in prompts]

    async def _ask(self, client: httpx.AsyncClient, body: Mapping[str, object]) -> Reply:
        key = json.dumps([self._endpoint.url, body], sort_keys=True)
        entry = self._cache.get("judge", key, max_age=float("inf"))
        if entry is not None and isinstance(entry.value, dict):
            return Reply(**entry.value)
        reply = await self._fetch(client, body)
        if reply.refusal is None:
            self._cache.put("judge", key, asdict(reply))
        return reply

    async def _fetch(self, client: httpx.AsyncClient, body: Mapping[str, object]) -> Reply:
        endpoint = self._endpoint
        attempts = stamina.retry_context(
            on=self._is_retried,
            attempts=endpoint.attempts,
            timeout=None,
            wait_initial=endpoint.backoff,
            wait_max=endpoint.max_wait,
            wait_jitter=endpoint.backoff,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    return await self._post(client, body)
        except _Transient as error:
            raise JudgeUnavailable(self._failure(error)) from None
        raise AssertionError("stamina ends in a result or an exception")

    def _is_retried(self, error: Exception) -> bool | float:
        """Whether to try again, or the seconds to wait before that."""
        if not isinstance(error, _Transient) or (error.wait or 0) > self._endpoint.max_wait:
            return False
        return True if error.wait is None else error.wait

    def _failure(self, error: _Transient) -> str:
        if error.wait is not None and error.wait > self._endpoint.max_wait:
            return (
                f"The judge at {self._endpoint.url} asks to wait {error.wait:g} s, longer than task.judge.max_wait "
                f"({self._endpoint.max_wait:g} s): {error}; run it again later, replies so far are kept."
            )
        times = f"{self._endpoint.attempts} attempts" if self._endpoint.attempts > 1 else "one attempt"
        return (
            f"The judge at {self._endpoint.url} did not answer in {times}: {error}; "
            "start it or correct task.judge.url and run it again, replies so far are kept."
        )

    async def _post(self, client: httpx.AsyncClient, body: Mapping[str, object]) -> Reply:
        try:
            async with asyncio.timeout(self._endpoint.timeout):  # httpx's own limit starts again with every byte
                response = await client.post(f"{self._endpoint.url}/chat/completions", json=body)
        except (TimeoutError, httpx.TimeoutException):
            raise _Transient(f"no reply within {self._endpoint.timeout:g} s") from None
        except httpx.HTTPError as error:
            raise _Transient(self._clean(str(error) or type(error).__name__)) from None
        if response.is_success:
            return _reply(response, self._endpoint.model)
        reason = f"HTTP {response.status_code}, {self._clean(_message(response))}"
        if response.status_code in _TRANSIENT or response.status_code >= 500:
            raise _Transient(reason, _retry_after(response))
        if response.status_code in _REFUSED:
            return Reply("", self._endpoint.model, refusal=reason)
        raise JudgeUnavailable(f"The judge at {self._endpoint.url} refuses the request: {reason}")

    def _clean(self, text: str) -> str:
        """A server's text as one short line without control characters, and without the key that it may repeat."""
        if self._api_key:
            text = text.replace(self._api_key, "[API key]")
        line = " ".join(printable(text).split())
        return line if len(line) <= _REASON_CHARS else line[:_REASON_CHARS] + "…"


def _reply(response: httpx.Response, asked: str) -> Reply:
    """Read a chat completion. Raises _Transient for anything else."""
    try:
        completion: Any = response.json()
        choice = completion["choices"][0]
        content = choice["message"].get("content")
        usage = completion.get("usage") or {}
        return Reply(
            text=_text(content),
            model=str(completion.get("model") or asked),
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise _Transient("its reply is no chat completion of OpenAI's protocol") from None


def _text(content: object) -> str:
    """A message's content: text, parts of text, or none."""
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("type") == "text")
    if content is None or isinstance(content, str):
        return content or ""
    raise TypeError(f"content of type {type(content).__name__}")


def _message(response: httpx.Response) -> str:
    """What an error's body says."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return response.text or response.reason_phrase


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, given as a number or as a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
