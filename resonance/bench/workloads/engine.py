"""Workloads of the engine alone: continuous batching, the prefix cache, and prompt lookup.

`mixed`: requests of many lengths arrive at random, compared with static batches of requests of one length.
`turns`: a conversation's second turn, whose prompt begins with tokens that the prefix cache holds.
`quoting`: answers that quote their prompt, with and without prompt lookup. Random weights quote nothing, so the answer
is forced: three of four tokens are passages of the prompt, the rest are new. Every token is computed and verified as
any other.
"""

import random
import time
from collections.abc import Iterator
from statistics import median

from resonance.bench.job import Job
from resonance.bench.peers import Program
from resonance.bench.peers.resonance import Resonance
from resonance.engine import Engine, SamplingParams

REQUESTS = 32
PROMPT, ANSWER = (16, 256), (32, 128)  # tokens of a mixed request, least and most
SHARED, QUESTION = 700, 16  # tokens of the first turn, and of the second turn's question
CONTEXT, PASSAGE, BETWEEN = 400, 24, 8  # tokens of a quoted prompt, of a quotation, and between two quotations


def measure(program: Program, job: Job) -> dict[str, object]:
    """The figures of one of these workloads."""
    assert isinstance(program, Resonance)
    return {"mixed": _continuous_batching, "turns": _prefix_cache, "quoting": _prompt_lookup}[job.what](program, job)


def _continuous_batching(program: Resonance, job: Job) -> dict[str, object]:
    """Generated tokens a second under mixed load, their share of static batches', and the time between tokens."""
    engine, rng = program.engine, random.Random(0)
    lengths = [(rng.randint(*PROMPT), rng.randint(*ANSWER)) for _ in range(REQUESTS)]
    static = _static_batching(engine, job.batch, lengths)
    total = sum(new for _, new in lengths)
    arrivals = sorted(rng.uniform(0, 0.6 * total / static) for _ in lengths)
    waiting = list(zip(arrivals, lengths, strict=True))
    last: dict[str, float] = {}
    gaps: list[float] = []
    started_at = time.perf_counter()
    while waiting or engine.has_work:
        elapsed = time.perf_counter() - started_at
        while waiting and waiting[0][0] <= elapsed:
            _, (prompt, new) = waiting.pop(0)
            engine.submit(_tokens(engine, prompt), _greedy(new))
        for request_id, _ in engine.step():
            now = time.perf_counter()
            if request_id in last:
                gaps.append(now - last[request_id])
            last[request_id] = now
    rate = total / (time.perf_counter() - started_at)
    gaps.sort()
    return {
        "tokens_per_s": [rate],
        "share_of_static": rate / static,
        "gap_p95_over_median": gaps[int(0.95 * len(gaps))] / median(gaps),
    }


def _static_batching(engine: Engine, slots: int, lengths: list[tuple[int, int]]) -> float:
    # Full batches of requests of the mean lengths, which start and end together. They are submitted as the mixed ones
    # are, because `Engine.generate` gives prefill priority over decoding.
    prompt = sum(prompt for prompt, _ in lengths) // len(lengths)
    new = sum(new for _, new in lengths) // len(lengths)
    started_at, batches = time.perf_counter(), REQUESTS // slots
    for _ in range(batches):
        for _ in range(slots):
            engine.submit(_tokens(engine, prompt), _greedy(new))
        while engine.has_work:
            engine.step()
    return batches * slots * new / (time.perf_counter() - started_at)


def _prefix_cache(program: Resonance, job: Job) -> dict[str, object]:
    """Prompt tokens a second of first turns; milliseconds to the first token of both turns, and their ratio."""
    first: list[float] = []
    second: list[float] = []
    for _ in range(job.repeats + 1):  # the first is a warm-up
        prompt, question = (_tokens(program.engine, length) for length in (SHARED, QUESTION))
        for seconds, tokens in ((first, prompt), (second, [*prompt, *question])):
            started_at = time.perf_counter()
            program.generate([tokens], 1)
            seconds.append(time.perf_counter() - started_at)
    return {
        "tokens_per_s": [SHARED / seconds for seconds in first[1:]],
        "first_turn_ms": median(first[1:]) * 1000,
        "second_turn_ms": median(second[1:]) * 1000,
        "second_over_first": median(later / earlier for earlier, later in zip(first[1:], second[1:], strict=True)),
    }


def _prompt_lookup(program: Resonance, job: Job) -> dict[str, object]:
    """Generated tokens a second with prompt lookup, and the ratio to those without."""
    with_lookup = program.new_engine(prompt_lookup=True)
    rates: list[float] = []
    ratios: list[float] = []
    for _ in range(job.repeats + 1):  # the first is a warm-up
        prompt = _tokens(program.engine, CONTEXT)
        answer = list(_quoting_answer(prompt, job.new_tokens, program.vocab_size))
        plain = _forced_rate(program.engine, prompt, answer)
        rates.append(_forced_rate(with_lookup, prompt, answer))
        ratios.append(rates[-1] / plain)
    return {"tokens_per_s": rates[1:], "times_as_fast": median(ratios[1:])}


def _quoting_answer(prompt: list[int], length: int, vocab_size: int) -> Iterator[int]:
    rng, start = random.Random(0), 0
    for position in range(length):
        offset = position % (PASSAGE + BETWEEN)
        start = rng.randrange(CONTEXT - PASSAGE) if offset == 0 else start
        yield prompt[start + offset] if offset < PASSAGE else rng.randrange(vocab_size)


def _forced_rate(engine: Engine, prompt: list[int], answer: list[int]) -> float:
    engine.generate([prompt], SamplingParams(max_new_tokens=1))  # fills the prefix cache: prefill is not measured
    params = SamplingParams(max_new_tokens=len(answer), temperature=0, forced_token_ids=tuple(answer), ignore_eos=True)
    started_at = time.perf_counter()
    completion = engine.generate([prompt], params)[0]
    seconds = time.perf_counter() - started_at
    if completion.token_ids != answer:
        raise RuntimeError("The answer is not the forced one.")
    return len(answer) / seconds


def _tokens(engine: Engine, length: int) -> list[int]:
    return [random.randrange(engine.config.vocab_size) for _ in range(length)]


def _greedy(new_tokens: int) -> SamplingParams:
    return SamplingParams(max_new_tokens=new_tokens, temperature=0, ignore_eos=True)
