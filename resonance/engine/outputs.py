"""The engine's outputs: pieces while a request runs, completions when it ends."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability and, where requested, the likeliest tokens at its position."""

    token_id: int
    logprob: float
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """One step's output of one sequence.

    `text` may be empty: the bytes of an unfinished character, and text that may become a stop string, are held
    back. `token_id` is None only in the last piece of a cancelled request and in the pieces of a scoring request,
    whose `scores` belong to the continuation's next tokens, or of an embedding. Log-probabilities are natural and the
    model's own, before temperature, penalties and filters; None unless requested.
    """

    token_id: int | None
    text: str
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] | None = None  # (token id, log-probability), likeliest first
    finish_reason: FinishReason | None = None
    index: int = 0  # which of the request's n completions
    scores: tuple[TokenLogprob, ...] = ()
    embedding: tuple[float, ...] = ()  # of a request that embeds a text, in its only piece


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished sequence.

    `token_ids` are the tokens of the text, without an end token and without tokens that lie wholly in or after a stop
    string. `logprobs` has one entry for each of them when the request asked for log-probabilities.
    """

    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None
    prompt_tokens: int
    cached_tokens: int  # prompt tokens taken from the prefix cache
    index: int = 0
