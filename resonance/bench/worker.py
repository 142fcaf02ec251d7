"""One program in a process of its own: loads it, measures what it is asked, prints one line of JSON.

`python -m resonance.bench.worker '{"who": ..., "folder": ..., "precision": ..., "threads": ..., "jobs": [...]}'`;
a job is {"what", "batch", "prompt_tokens", "new_tokens", "repeats"}.
"""

import gc
import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch

from resonance.bench import mixed, peers
from resonance.bench.peers.resonance import Resonance


def main(argument: str) -> None:
    """Do the jobs; print {"measured": [{"what", "batch", "tokens_per_s": [...]}], "peak_rss_mb"} or {"unsupported"}."""
    order = json.loads(argument)
    torch.set_num_threads(order["threads"])
    batch = max(job["batch"] for job in order["jobs"])
    try:
        program = peers.load(order["who"], Path(order["folder"]), order["precision"], batch, order["threads"])
    except peers.Unsupported as reason:
        print(json.dumps({"unsupported": str(reason)}))
        return
    gc.collect()
    measured = [{**job, **_measure(program, job)} for job in order["jobs"]]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"measured": measured, "peak_rss_mb": round(peak)}))


def _measure(program: peers.Program, job: dict[str, int]) -> dict[str, object]:
    if cast("str", job["what"]) == "mixed":
        return mixed.measure(cast("Resonance", program).engine, job["batch"])
    rates = _prefill(program, job) if cast("str", job["what"]) == "prefill" else _decode(program, job)
    return {"tokens_per_s": list(rates)}


def _decode(program: peers.Program, job: dict[str, int]) -> Iterator[float]:
    # The time for one new token, the prompt's above all, is taken off the time for many.
    _timed(program, job, 8)
    for _ in range(job["repeats"]):
        first, all_of_them = _timed(program, job, 1), _timed(program, job, job["new_tokens"])
        yield job["batch"] * (job["new_tokens"] - 1) / (all_of_them - first)


def _prefill(program: peers.Program, job: dict[str, int]) -> Iterator[float]:
    _timed(program, job, 1)
    for _ in range(job["repeats"]):
        yield job["batch"] * job["prompt_tokens"] / _timed(program, job, 1)


def _timed(program: peers.Program, job: dict[str, int], new_tokens: int) -> float:
    prompts = [[random.randrange(50257) for _ in range(job["prompt_tokens"])] for _ in range(job["batch"])]
    started = time.perf_counter()
    program.generate(prompts, new_tokens)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1])
