"""Traces of requests: times and counts, never content. `otlp.py` exports them."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

UNTRACED = frozenset(("/health", "/metrics"))  # requested every few seconds, by machines


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """The result of an answer; times are of the monotonic clock in seconds, None where the answer ended before."""

    id: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    finish_reasons: tuple[str, ...]
    sent_at: float | None  # to the queue
    claimed_at: float | None  # by a worker
    first_at: float | None  # token
    ended_at: float
    failure: str | None  # its code


class Trace(Protocol):
    """The trace of one request."""

    @property
    def id(self) -> str:
        """The trace id, which log lines contain."""
        ...

    def record_answer(self, answer: AnswerRecord) -> None:
        """Record the result of an answer."""
        ...

    def end(self, route: str, status: int) -> None:
        """End the trace with the response's status."""
        ...


class Tracing(Protocol):
    """Makes traces and exports them."""

    def start_trace(self, method: str, headers: Mapping[str, str], request_id: str) -> Trace:
        """Start a request's trace, as a part of the client's trace where its headers name one."""
        ...

    def close(self) -> None:
        """Export the remaining traces."""
        ...


CURRENT_TRACE: ContextVar[Trace | None] = ContextVar("CURRENT_TRACE", default=None)
"""The trace of the current request, where tracing is configured."""
