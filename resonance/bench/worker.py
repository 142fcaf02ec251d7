"""One program in a process of its own: loads it, then measures whatever job it is told, again and again.

`python -m resonance.bench.worker '{"who": ..., "folder": ..., "precision": ..., "threads": ..., "batch": ...}'` prints
a line of JSON once it has loaded, then one for each job that it reads from its standard input, until that is closed:
{"what", "batch", "prompt_tokens", "new_tokens", "repeats"}. With `"prepare": true` it only writes the files that
the program wants, so that the memory which this takes is not counted. With `"kind": "serve"` or `"train"` it loads
what serves or trains; the module of that name in this folder knows what that is.
"""

import gc
import json
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from resonance.bench import peers


def main(argument: str) -> None:
    """Load, then do the jobs; see above. What cannot be loaded is said as {"unsupported": why}."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the programs print is no answer
    order = json.loads(argument)
    who, folder, precision = order["who"], Path(order["folder"]), order["precision"]
    programs: Any = import_module(f"resonance.bench.{order['kind']}") if order["kind"] else peers
    try:
        if order.get("prepare"):
            programs.prepare(who, folder, precision)
            _say(out, {})
            return
        started = time.perf_counter()
        program = programs.load(who, folder, precision, order["batch"], order["threads"])
        _say(out, {"load_seconds": time.perf_counter() - started})
    except peers.Unsupported as reason:
        _say(out, {"unsupported": str(reason)})
        return
    gc.collect()
    if order["kind"]:
        with closing(program):
            for line in sys.stdin:
                _say(out, {"peak_rss_mb": _megabytes("VmHWM"), **program.measure(json.loads(line))})
        return
    for line in sys.stdin:
        figures = _measure(program, json.loads(line))
        if program.needed_bytes is not None:
            figures["rss_over_need"] = _megabytes("VmRSS") * 2**20 / program.needed_bytes
        _say(out, {**figures, "peak_rss_mb": _megabytes("VmHWM")})


def _say(out: TextIO, answer: dict[str, object]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


def _megabytes(name: str) -> int:
    # Resident now, VmRSS, or at most, VmHWM. Not getrusage's, which begins with that of the process before this one.
    status = Path("/proc/self/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text(encoding="utf-8")) if status.is_file() else None
    return round(int(found[1]) / 1024) if found else 0


def _measure(program: peers.Program, job: dict[str, int]) -> dict[str, object]:
    what = str(job["what"])
    if what == "decode":
        return {"tokens_per_s": list(_decode(program, job))}
    if what == "prefill":
        return {"tokens_per_s": list(_prefill(program, job))}
    return import_module(f"resonance.bench.{what}").measure(program, job)


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
    vocab = program.vocab_size
    prompts = [[random.randrange(vocab) for _ in range(job["prompt_tokens"])] for _ in range(job["batch"])]
    started = time.perf_counter()
    program.generate(prompts, new_tokens)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1])
