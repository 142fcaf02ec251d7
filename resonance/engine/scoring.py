"""How likely the model finds tokens that are there already."""

from collections.abc import Sequence
from numbers import Integral

from torch import Tensor

from resonance.engine import sampler
from resonance.engine.model_runner import Runner
from resonance.engine.outputs import TokenLogprob
from resonance.engine.requests import checked_ids
from resonance.engine.sampling_params import EngineError
from resonance.engine.sequence import Chunk

HEAD_ROWS = 128  # logits of so many places at a time exist

Pair = tuple[Sequence[int], Sequence[int]]  # a prompt's ids, and those of its continuation


def checked(pair: Pair, top: int, vocab_size: int) -> tuple[list[int], list[int]]:
    """A prompt and its continuation, which is to be scored, as lists; the engine checks prompts.

    Raises EngineError when there is nothing before the continuation, when it is not made of ids of the vocabulary, or
    when `top` is no number of tokens.
    """
    prompt, continuation = pair
    if not len(prompt):
        raise EngineError("A prompt to score after must have at least one token; the end-of-text token will do.")
    if not isinstance(top, Integral) or top < 0:
        raise EngineError(f"top must be a whole number of at least 0, not {top!r}.")
    return list(prompt), checked_ids("the continuation", continuation, vocab_size)


def score(runner: Runner, chunks: Sequence[Chunk], hidden: Tensor) -> list[TokenLogprob]:
    """The tokens to score of all chunks with their log-probabilities, from the hidden states before them (tokens, C).

    The work is bounded by the step's tokens, as the chunks are, and the memory by HEAD_ROWS.
    """
    ids = [token_id for chunk in chunks for token_id in chunk.scored_ids]
    tops = [chunk.text.scored_top for chunk in chunks for _ in range(chunk.wanted)]
    scored: list[TokenLogprob] = []
    for start, states in zip(range(0, len(ids), HEAD_ROWS), hidden.split(HEAD_ROWS), strict=True):
        some, some_tops = ids[start : start + HEAD_ROWS], tops[start : start + HEAD_ROWS]
        known = sampler.logprobs(runner.logits(states), some, max(some_tops))
        scored += [
            TokenLogprob(token_id, value, best[:top])
            for token_id, top, (value, best) in zip(some, some_tops, known, strict=True)
        ]
    return scored
