"""What travels between the HTTP process and the inference workers, pickled once at either end.

Tokens and numbers only: the workers know nothing of HTTP, messages or conversations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve.workers.shared_state import Lease


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

    @property
    def places(self) -> int:
        """How many places of a batch its answers take."""
        return 1 if self.params is None else self.n


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


Score = tuple[float, tuple[tuple[int, float], ...]]  # log-probability, and (token id, log-probability) of the likeliest


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of the next of one prompt's tokens; the first are those of its second token, as the first has none."""

    prompt: int
    tokens: list[Score]


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
    """What a worker remembers of a job: how many of its prompts have begun, and the engine requests they became."""

    job: Job
    begun: int = 0  # prompts
    first: int = 0  # index of the next prompt's first answer
    # engine request -> its prompt's number, and the index of its first answer
    open: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    waiting: dict[str, int] = field(default_factory=dict[str, int])  # those without a token yet -> prompt's length
    places: int = 0  # of the engine's batch that it takes: unfinished answers, and prompts that are scored
    paused: bool = False  # its reader is behind

    @property
    def next_prompt(self) -> Prompt | None:
        """The first prompt that has not begun."""
        return self.job.prompts[self.begun] if self.begun < len(self.job.prompts) else None

    def take_next(self) -> tuple[int, int]:
        """Note that the next prompt begins; its number, and the index of its first answer."""
        number, first = self.begun, self.first
        self.begun, self.first = number + 1, first + self.job.prompts[number].n
        return number, first
