"""The messages between the HTTP process and the inference workers, pickled once on each way.

They hold token ids and numbers only: the workers know nothing of HTTP, chat messages or conversations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve.workers.shared_state import RequestSlot


@dataclass(frozen=True, slots=True)
class PromptInput:
    """One prompt to be continued `n` times; `params` are the fields of the engine's SamplingParams.

    With `params` None nothing is generated. With `score_top` the worker also computes the prompt's own
    log-probabilities, with that many alternatives at each position; with `embed` the mean of its hidden states.
    """

    ids: list[int]
    params: Mapping[str, Any] | None
    n: int = 1
    score_top: int | None = None
    embed: bool = False

    @property
    def batch_slots(self) -> int:
        """How many slots of the engine's batch the prompt takes."""
        return 1 if self.params is None else self.n


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """A request as a worker sees it; `deadline` is a time of the monotonic clock in seconds."""

    slot: RequestSlot
    model: str
    deadline: float
    prompts: list[PromptInput]


@dataclass(frozen=True, slots=True)
class Token:
    """One token of one answer; `index` counts the answers over all prompts of the request."""

    index: int
    token_id: int | None
    text: str
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] | None = None
    finish_reason: str | None = None


Score = tuple[float, tuple[tuple[int, float], ...]]  # log-probability, and (token id, log-probability) of the likeliest


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a prompt's next tokens, in order. A prompt's first token has no score."""

    prompt: int
    tokens: list[Score]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embedding of a prompt; `values` are the bytes of little-endian 32-bit floats."""

    prompt: int
    values: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The request has failed; the fields are those of the HTTP error."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All answers are complete; no event follows."""


@dataclass(frozen=True, slots=True)
class Idle:
    """No event has come for a while; the HTTP process adds it so that streams can send a keep-alive."""


TIMED_OUT = Failure(504, "timeout", "The answer took longer than the server allows.")
Event = Token | Scored | Embedded | Failure | Finished | Idle
EventBatch = list[tuple[str, Event]]  # the events of one step, each with its request's uid
