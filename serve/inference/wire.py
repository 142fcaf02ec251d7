"""What travels between the HTTP process and the inference workers, pickled once at either end.

Tokens and numbers only: the workers know nothing of HTTP, messages or conversations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve.inference.leases import Lease


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text to be continued `n` times, `params` being those of the engine's SamplingParams.

    `params` None asks for nothing to be generated. `score_top` asks for the prompt's own log-probabilities, with so
    many alternatives at each place.
    """

    ids: list[int]
    params: Mapping[str, Any] | None
    n: int = 1
    score_top: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A request as a worker sees it; `deadline` is a time of the monotonic clock in seconds."""

    lease: Lease
    model: str
    deadline: float
    prompts: list[Prompt]


@dataclass(frozen=True, slots=True)
class Token:
    """One token of one answer; `index` counts answers over all prompts of the job."""

    index: int
    token_id: int | None
    text: str
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """For one prompt's tokens from the second on: log-probability, and (token id, log-probability) of the likeliest."""

    prompt: int
    tokens: list[tuple[float, tuple[tuple[int, float], ...]]]


@dataclass(frozen=True, slots=True)
class Failure:
    """The request cannot go on; the fields are those of the HTTP error."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All answers are complete; nothing follows."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing has happened for a while; made in the HTTP process so that streams can say that they live."""


Event = Token | Scored | Failure | Finished | Idle


@dataclass(slots=True)
class Progress:
    """What a worker remembers of a job: the engine requests that it became and are not finished."""

    job: Job
    open: dict[str, int] = field(default_factory=dict[str, int])  # engine request -> index of its first answer
    waiting: dict[str, int] = field(default_factory=dict[str, int])  # those without a token yet -> prompt's length
    answers_left: int = 0
