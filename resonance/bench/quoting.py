"""Answers that quote their prompt, with and without prompt lookup.

Random weights quote nothing, so the answer is prescribed: three of four tokens are passages of the prompt, the rest
are new. Every token is computed and checked as any other, on any weights.
"""

import random
import time
from collections.abc import Iterator
from statistics import median

from resonance.bench.peers.resonance import Resonance
from resonance.engine import Engine, SamplingParams

CONTEXT, PASSAGE, BETWEEN = 400, 24, 8  # tokens


def measure(program: Resonance, job: dict[str, int]) -> dict[str, object]:
    """Generated tokens a second with prompt lookup, and how many times as fast that is as without."""
    looking = program.another(prompt_lookup=True)
    rates: list[float] = []
    ratios: list[float] = []
    for _ in range(job["repeats"] + 1):  # the first of which warms up
        prompt = [random.randrange(program.vocab_size) for _ in range(CONTEXT)]
        answer = list(_answer(prompt, job["new_tokens"], program.vocab_size))
        plain = _generate(program.engine, prompt, answer)
        rates.append(_generate(looking, prompt, answer))
        ratios.append(rates[-1] / plain)
    return {"tokens_per_s": rates[1:], "times_as_fast": median(ratios[1:])}


def _answer(prompt: list[int], length: int, vocab_size: int) -> Iterator[int]:
    chance, start = random.Random(0), 0
    for place in range(length):
        within = place % (PASSAGE + BETWEEN)
        start = chance.randrange(CONTEXT - PASSAGE) if within == 0 else start
        yield prompt[start + within] if within < PASSAGE else chance.randrange(vocab_size)


def _generate(engine: Engine, prompt: list[int], answer: list[int]) -> float:
    # The prompt is computed in both, once: its time to the first token is not the answer's.
    engine.generate([prompt], SamplingParams(max_new_tokens=1))
    params = SamplingParams(max_new_tokens=len(answer), temperature=0, forced_token_ids=tuple(answer), ignore_eos=True)
    started = time.perf_counter()
    completion = engine.generate([prompt], params)[0]
    seconds = time.perf_counter() - started
    if completion.token_ids != answer:
        raise RuntimeError("The answer is not the prescribed one.")
    return len(answer) / seconds
