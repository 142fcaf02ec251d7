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
    """Score continuations, in order and batched by the engine.

    Raises EngineError when a continuation is empty, or longer with its prompt than the model's context.
    """
    requests = {engine.submit_score(prompt, continuation, top=1): i for i, (prompt, continuation) in enumerate(pairs)}
    logprobs: list[list[float]] = [[] for _ in pairs]
    best: list[list[int]] = [[] for _ in pairs]
    while any(len(found) < len(continuation) for found, (_, continuation) in zip(best, pairs, strict=True)):
        for request, piece in engine.step():
            if request in requests:
                logprobs[requests[request]] += [score.logprob for score in piece.scores]
                best[requests[request]] += [score.top_logprobs[0][0] for score in piece.scores]
    return [
        _likelihood(continuation, own_logprobs, own_best)
        for (_, continuation), own_logprobs, own_best in zip(pairs, logprobs, best, strict=True)
    ]


def _likelihood(continuation: Sequence[int], logprobs: Sequence[float], best: Sequence[int]) -> Likelihood:
    agreed = next((i for i, pair in enumerate(zip(continuation, best, strict=True)) if pair[0] != pair[1]), len(best))
    return Likelihood(sum(logprobs), tuple(best[: agreed + 1]), agreed == len(best))
