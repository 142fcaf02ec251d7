"""`what=decode`, `growth` and `prefill`, which every program runs; `mixed`, `turns` and `quoting` are in `engine`."""

import random
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resonance.bench.job import Job
from resonance.bench.memory import rss_mb
from resonance.bench.peers import Program, Tool, peer
from resonance.bench.workloads import ENGINE_ONLY, Measure

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision


def prepare(program: str, folder: Path, precision: "Precision") -> None:
    """Write beside the Hugging Face checkpoint in `folder` what the program reads instead. Raises Unsupported."""
    peer(program).prepare(folder, precision)


@contextmanager
def load(program: str, folder: Path, precision: "Precision", batch: int, threads: int) -> Generator[Measure]:
    """Load a program, once prepared. Raises Unsupported."""
    model: Any = peer(program).load(folder, precision, batch, threads)
    if hasattr(model, "measure"):
        tool: Tool = model
        yield tool.measure
        return

    def measure(job: Job) -> dict[str, object]:
        figures: dict[str, object]
        if job.what in ENGINE_ONLY:
            from resonance.bench.workloads import engine  # here, because it imports torch

            figures = engine.measure(model, job)
        else:
            figures = {"tokens_per_s": list((_prefill if job.what == "prefill" else _decode)(model, job))}
        if model.needed_bytes is not None:
            figures["rss_over_need"] = rss_mb() * 2**20 / model.needed_bytes
        return figures

    yield measure


def _decode(model: Program, job: Job) -> Iterator[float]:
    # The time for one new token, mostly the prompt's prefill, is subtracted from the time for all.
    _seconds(model, job, 8)
    for _ in range(job.repeats):
        one = all_tokens = 0.0
        while all_tokens <= one:  # on a busy machine the prefill alone can take longer the first time
            one, all_tokens = _seconds(model, job, 1), _seconds(model, job, job.new_tokens)
        yield job.batch * (job.new_tokens - 1) / (all_tokens - one)


def _prefill(model: Program, job: Job) -> Iterator[float]:
    _seconds(model, job, 1)
    for _ in range(job.repeats):
        yield job.batch * job.prompt_tokens / _seconds(model, job, 1)


def _seconds(model: Program, job: Job, new_tokens: int) -> float:
    prompts = [[random.randrange(model.vocab_size) for _ in range(job.prompt_tokens)] for _ in range(job.batch)]
    started_at = time.perf_counter()
    model.generate(prompts, new_tokens)
    return time.perf_counter() - started_at
