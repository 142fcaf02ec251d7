"""Mixed load: requests of many lengths that arrive at random, against as many that all run from the start."""

import random
import time
from statistics import median

from resonance.bench.peers.resonance import Resonance
from resonance.engine import Engine, SamplingParams

REQUESTS = 32
PROMPT, ANSWER = (16, 256), (32, 128)  # tokens, from and to


def measure(program: Resonance, job: dict[str, int]) -> dict[str, object]:
    """Generated tokens a second under mixed load, its share of a full static batch's, and the time between tokens."""
    engine, slots = program.engine, job["batch"]
    chance = random.Random(0)
    lengths = [(chance.randint(*PROMPT), chance.randint(*ANSWER)) for _ in range(REQUESTS)]
    static = _static(engine, slots, lengths)
    total = sum(new for _, new in lengths)
    arrivals = sorted(chance.uniform(0, 0.6 * total / static) for _ in lengths)
    waiting = list(zip(arrivals, lengths, strict=True))
    last: dict[str, float] = {}
    gaps: list[float] = []
    started = time.perf_counter()
    while waiting or engine.has_work:
        now = time.perf_counter() - started
        while waiting and waiting[0][0] <= now:
            _, (prompt, new) = waiting.pop(0)
            engine.submit(_prompt(engine, prompt), _greedy(new))
        for request_id, _ in engine.step():
            now = time.perf_counter()
            if request_id in last:
                gaps.append(now - last[request_id])
            last[request_id] = now
    rate = total / (time.perf_counter() - started)
    gaps.sort()
    return {
        "tokens_per_s": [rate],
        "share_of_static": rate / static,
        "gap_p95_over_median": gaps[int(0.95 * len(gaps))] / median(gaps),
    }


def _static(engine: Engine, slots: int, lengths: list[tuple[int, int]]) -> float:
    # The same prompts and as many new tokens, in full batches whose members begin and end together; submitted as the
    # others are, since `generate` lets prompts go before decoding.
    prompt = sum(prompt for prompt, _ in lengths) // len(lengths)
    new = sum(new for _, new in lengths) // len(lengths)
    started, batches = time.perf_counter(), REQUESTS // slots
    for _ in range(batches):
        for _ in range(slots):
            engine.submit(_prompt(engine, prompt), _greedy(new))
        while engine.has_work:
            engine.step()
    return batches * slots * new / (time.perf_counter() - started)


def _prompt(engine: Engine, length: int) -> list[int]:
    return [random.randrange(engine.config.vocab_size) for _ in range(length)]


def _greedy(new_tokens: int) -> SamplingParams:
    return SamplingParams(max_new_tokens=new_tokens, temperature=0, ignore_eos=True)
