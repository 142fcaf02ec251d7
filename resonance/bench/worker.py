"""Runs one program in a process of its own: loads it once, then measures one job after another.

`python -m resonance.bench.worker '{"program": ..., "module": ..., "folder": ..., "precision": ..., "threads": ...,
"batch": ...}'` prints a line of JSON once it has loaded, then one for each job that it reads as JSON from its standard
input, until that is closed. `module` is one of `resonance.bench.workloads`. With `"prepare": true` it only writes the
files that the program reads, so that the memory which this takes is not counted.
"""

import gc
import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from resonance.bench.job import Job
from resonance.bench.memory import rss_mb
from resonance.bench.peers import Unsupported


def main(argument: str) -> None:
    """Load the program and run the jobs; report what cannot be loaded as {"unsupported": reason}."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what the program has started ends, too
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the program itself prints must not mix with the results
    order = json.loads(argument)
    program, folder, precision = order["program"], Path(order["folder"]), order["precision"]
    module: Any = import_module(f"resonance.bench.workloads.{order['module']}")
    try:
        if order.get("prepare"):
            module.prepare(program, folder, precision)
            _write(out, {})
            return
        started_at = time.perf_counter()
        with module.load(program, folder, precision, order["batch"], order["threads"]) as measure:
            _write(out, {"load_seconds": time.perf_counter() - started_at})
            gc.collect()
            for line in sys.stdin:
                figures = measure(Job(**json.loads(line)))
                _write(out, {"peak_rss_mb": rss_mb(peak=True), **figures})
    except Unsupported as reason:
        _write(out, {"unsupported": str(reason)})


def _write(out: TextIO, result: dict[str, object]) -> None:
    out.write(json.dumps(result) + "\n")
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
