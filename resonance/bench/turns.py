"""A conversation's second turn: how much sooner its first token comes when the first turn's cache is still there."""

import random
import time
from collections.abc import Sequence
from statistics import median

from resonance.bench.peers.resonance import Resonance

SHARED, QUESTION = 700, 16  # tokens


def measure(program: Resonance, job: dict[str, int]) -> dict[str, object]:
    """Prompt tokens a second of first turns; milliseconds to the first token of both turns, and their ratio."""
    first: list[float] = []
    second: list[float] = []
    for _ in range(job["repeats"] + 1):  # the first of which warms up
        prompt, question = ([random.randrange(program.vocab_size) for _ in range(n)] for n in (SHARED, QUESTION))
        first.append(_seconds(program, prompt))
        second.append(_seconds(program, [*prompt, *question]))
    shares = [late / early for early, late in zip(first[1:], second[1:], strict=True)]
    return {
        "tokens_per_s": [SHARED / seconds for seconds in first[1:]],
        "first_turn_ms": median(first[1:]) * 1000,
        "second_turn_ms": median(second[1:]) * 1000,
        "second_over_first": median(shares),
    }


def _seconds(program: Resonance, prompt: Sequence[int]) -> float:
    started = time.perf_counter()
    program.generate([prompt], 1)
    return time.perf_counter() - started
