"""Log-likelihoods of continuations, with whether greedy decoding would have generated them."""

from collections.abc import Sequence
from dataclasses import dataclass

from resonance.engine import Engine

Pair = tuple[Sequence[int], Sequence[int]]  # token ids: a prompt, which is not empty, and its continuation


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A continuation's log-likelihood in nats, and the likeliest token at each of its positions.

    `greedy` is the continuation up to the first token that greedy decoding chooses differently, and that other token.
    """

    logprob: float
    greedy: tuple[int, ...]
    is_greedy: bool


def likelihoods(engine: Engine, pairs: Sequence[Pair]) -> list[Likelihood]:
    """Score continuations, none of them empty, in order and batched by the engine.

    Raises EngineError when one is longer with its prompt than the model's context.
    """
    return [
        _likelihood(continuation, [token.logprob for token in tokens], [token.top_logprobs[0][0] for token in tokens])
        for (_, continuation), tokens in zip(pairs, engine.score_tokens(pairs, top=1), strict=True)
    ]


def _likelihood(continuation: Sequence[int], logprobs: Sequence[float], best: Sequence[int]) -> Likelihood:
    agreed = next((i for i, pair in enumerate(zip(continuation, best, strict=True)) if pair[0] != pair[1]), len(best))
    return Likelihood(sum(logprobs), tuple(best[: agreed + 1]), agreed == len(best))
