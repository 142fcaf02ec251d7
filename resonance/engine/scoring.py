"""How likely the model finds tokens that are there already."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from resonance.engine import sampling
from resonance.engine.params import EngineError
from resonance.engine.requests import checked_ids
from resonance.engine.results import TokenLogprob
from resonance.engine.runner import Runner

HEAD_ROWS = 128  # logits of so many places at a time exist

Pair = tuple[Sequence[int], Sequence[int]]  # a prompt's ids, and those of its continuation


def places(pairs: Sequence[Pair], vocab_size: int) -> list[tuple[Sequence[int], int]]:
    """The texts to compute for `score`, each with the place from which on its hidden states are wanted.

    Pairs without a continuation need none. Raises EngineError when there is nothing before a continuation, or when it
    is not made of ids of the vocabulary.
    """
    for prompt, continuation in pairs:
        if continuation and not prompt:
            raise EngineError("A prompt to score after must have at least one token; the end-of-text token will do.")
        checked_ids("the continuation", continuation, vocab_size)
    return [([*prompt, *continuation[:-1]], len(prompt) - 1) for prompt, continuation in pairs if continuation]


def score(runner: Runner, pairs: Sequence[Pair], hidden: Iterator[Tensor], top: int) -> list[list[TokenLogprob]]:
    """Each continuation's tokens with their log-probabilities, from the hidden states (tokens, C) of `places`."""
    return [_score(runner, continuation, next(hidden), top) if continuation else [] for _, continuation in pairs]


def _score(runner: Runner, token_ids: Sequence[int], hidden: Tensor, top: int) -> list[TokenLogprob]:
    scored: list[TokenLogprob] = []
    for at, states in enumerate(hidden.split(HEAD_ROWS)):
        ids = [int(i) for i in token_ids[at * HEAD_ROWS : (at + 1) * HEAD_ROWS]]
        known = sampling.logprobs(runner.logits(states), ids, top)
        scored += [TokenLogprob(i, value, best) for i, (value, best) in zip(ids, known, strict=True)]
    return scored
