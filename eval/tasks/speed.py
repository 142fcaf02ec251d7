"""How fast the evaluated engine is on this machine: decoding, prefill, and the time to the first token."""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Item, MetricSpec, Record, item_id
from resonance.engine import Engine, SamplingParams

_BUSY = 0.1  # share of the processors used by other processes from which a note says so
_PLAIN_TOKENS = 50_000  # ids below are ordinary tokens of every vocabulary of ours


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of decoding (one sequence, and a full batch) and of prefill; milliseconds to the first token.

    An item is a round of measurements, whose observations are medians of `repeats` measurements; the interval is over
    `rounds`. Prompts are random tokens, so that nothing comes from the prefix cache; both lengths are halved until they
    fit into the context window. Speeds are the machine's as much as the model's: they are neither tested between models
    nor expected to come out the same again.
    """

    prompt_tokens: int
    new_tokens: int
    rounds: int
    repeats: int
    seed: int
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = False

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Three rates and a time."""
        return {
            "decode_tokens_per_s": MetricSpec("mean", measured=True),
            "batch_decode_tokens_per_s": MetricSpec("mean", measured=True),
            "prefill_tokens_per_s": MetricSpec("mean", measured=True),
            "first_token_ms": MetricSpec("mean", measured=True, higher_is_better=False),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[int]]:
        """One item per round."""
        return [Item(item_id("speed", self.seed, i), i, "") for i in range(self.rounds)]

    def run(self, model: EvaluatedModel, items: Sequence[Item[int]]) -> Iterator[Record]:
        """Warm up, then measure each round."""
        prompt, new = self._lengths(model.context_length)
        engine, batch = model.engine, model.batch_size
        _decode(engine, _prompts(random.Random(self.seed), batch, 2), min(new, 8))
        for item in items:
            rng = random.Random(f"{self.seed}/{item.content}")
            others = _OtherProcesses()

            def measure(one: Callable[[random.Random], float], rng: random.Random = rng) -> list[float]:
                return [one(rng) for _ in range(self.repeats)]

            measured = {
                "decode_tokens_per_s": measure(lambda rng: _decode(engine, _prompts(rng, 1, 2), new)),
                "batch_decode_tokens_per_s": measure(lambda rng: _decode(engine, _prompts(rng, batch, 2), new)),
                "prefill_tokens_per_s": measure(
                    lambda rng: prompt * batch / _first_tokens(engine, _prompts(rng, batch, prompt))
                ),
                "first_token_ms": measure(lambda rng: 1000 * _first_tokens(engine, _prompts(rng, 1, prompt))),
            }
            yield Record(
                item=item.id,
                observations={name: (median(values), 1.0) for name, values in measured.items()},
                details={
                    "measurements": measured,
                    "prompt_tokens": prompt,
                    "new_tokens": new,
                    "batch_size": batch,
                    "precision": engine.stats().precision,
                    "other_processes": others.share(),
                },
            )

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The lengths, and how busy the machine was with other processes."""
        if not records:
            return ()
        first = records[0].details
        notes = [
            f"Speeds are medians of {self.repeats} measurements in each of {len(records)} rounds, with prompts of "
            f"{first['prompt_tokens']} tokens, {first['new_tokens']} new ones and batches of {first['batch_size']}."
        ]
        shares = [share for record in records if isinstance(share := record.details.get("other_processes"), float)]
        if shares and max(shares) >= _BUSY:
            notes.append(
                f"Other processes used up to {max(shares):.0%} of the processors meanwhile, so the model is faster "
                "than these speeds say; measure again when the machine is quiet."
            )
        return notes

    def _lengths(self, context_length: int) -> tuple[int, int]:
        """The tokens of a prompt and of an answer that fit together into the context."""
        prompt, new = self.prompt_tokens, self.new_tokens
        while prompt + new > context_length and max(prompt, new) > 2:
            prompt, new = max(1, prompt // 2), max(2, new // 2)
        return prompt, new


def _prompts(rng: random.Random, count: int, length: int) -> list[list[int]]:
    return [[rng.randrange(_PLAIN_TOKENS) for _ in range(length)] for _ in range(count)]


def _decode(engine: Engine, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
    """Tokens per second of all sequences together, from the step that gives the last of them its first token."""
    params = SamplingParams(max_new_tokens=new_tokens, temperature=0.0, ignore_eos=True)
    waiting = {engine.submit(prompt, params) for prompt in prompts}
    started = ended = 0.0
    tokens = 0
    while engine.has_work:
        pieces = engine.step()
        if waiting:
            waiting -= {request_id for request_id, _ in pieces}
            started = time.perf_counter()
        elif pieces:
            tokens += sum(piece.token_id is not None for _, piece in pieces)
            ended = time.perf_counter()
    return tokens / (ended - started)


def _first_tokens(engine: Engine, prompts: Sequence[Sequence[int]]) -> float:
    """Seconds until every prompt has its first token."""
    started = time.perf_counter()
    engine.generate(prompts, SamplingParams(max_new_tokens=1, temperature=0.0, ignore_eos=True))
    return time.perf_counter() - started


class _OtherProcesses:
    """The share of all processors' time that other processes use from now on; None where /proc does not say."""

    def __init__(self) -> None:
        self._before = _jiffies()

    def share(self) -> float | None:
        """The share since the beginning, in [0, 1]."""
        before, after = self._before, _jiffies()
        if before is None or after is None or after[1] <= before[1]:
            return None
        busy, total, own = (now - then for now, then in zip(after, before, strict=True))
        return round(min(1.0, max(0.0, (busy - own) / total)), 3)


def _jiffies() -> tuple[float, float, float] | None:
    """The machine's busy and total time, and this process's own, in clock ticks."""
    try:
        fields = [float(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    idle = fields[3] + fields[4]
    own = os.times()
    return sum(fields) - idle, sum(fields), (own.user + own.system) * os.sysconf("SC_CLK_TCK")
