"""What a trace is told about a request: times and counts, never a word of what was said. `otlp.py` keeps it."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

UNTRACED = frozenset(("/health", "/metrics"))  # asked for every few seconds, by machines


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of an answer; times are of the monotonic clock in seconds, None where it did not come so far."""

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
        """Its number, by which a log's lines are found."""
        ...

    def answered(self, answer: Answered) -> None:
        """Note what became of an answer."""
        ...

    def end(self, route: str, status: int) -> None:
        """Note the response."""
        ...


class Tracing(Protocol):
    """Where traces go."""

    def begin(self, method: str, headers: Mapping[str, str], request_id: str) -> Trace:
        """Begin a request's trace, as a part of the client's where its headers name one."""
        ...

    def close(self) -> None:
        """Send what is still here."""
        ...


TRACE: ContextVar[Trace | None] = ContextVar("TRACE", default=None)
"""The trace of the request at hand, where traces are kept."""
