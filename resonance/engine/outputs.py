"""What the engine gives back."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its log-probability and, where asked for, the likeliest tokens in its place."""

    token_id: int
    logprob: float
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """One step of one request's text.

    `text` may be empty: characters whose bytes are not all there yet, and what may still become a stop string,
    are held back. `token_id` is None only in the last piece of a cancelled request, and in those of a scoring
    request, whose `scores` are of the continuation's next tokens. The natural logarithms of probabilities are the
    model's own, before temperature, penalties and filters; None where not asked for.
    """

    token_id: int | None
    text: str
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] | None = None  # (token id, log-probability), likeliest first
    finish_reason: FinishReason | None = None
    index: int = 0  # which of the request's n answers
    scores: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished text.

    `token_ids` are the tokens of the text: an end token, and tokens that lie wholly in or after a stop string,
    are left out. `logprobs` has one entry for each of them when the request asked for any.
    """

    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None
    prompt_tokens: int
    cached_tokens: int  # of the prompt, taken from an earlier sequence's cache
    index: int = 0
