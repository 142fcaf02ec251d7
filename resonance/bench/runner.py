"""Runs programs side by side: each is loaded once in a process of its own, and is idle while another is measured.

A program that fails, or exceeds its time limit, is excluded with the reason; the others continue.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from resonance.bench.job import Job
from resonance.bench.peers import INTERPRETERS, environment
from resonance.bench.workloads import MODULES, takes_part
from resonance.child_process import ending_with_parent
from resonance.engine.quantization import Precision

LOAD_TIMEOUT = 600.0  # seconds, in which a program converts the checkpoint and loads it
STOP_TIMEOUT = 20.0  # seconds in which a worker ends the processes that it started


@dataclass(slots=True)
class Measurements:
    """One program's figures for one job, of all rounds so far."""

    job: Job
    program: str
    precision: Precision
    rates: list[float] = field(default_factory=list[float])
    more: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    peak_rss_mb: int = 0
    load_seconds: float = 0.0

    def add(self, figures: dict[str, Any]) -> None:
        """Add a worker's figures."""
        self.rates += figures.pop("tokens_per_s")
        self.peak_rss_mb = max(self.peak_rss_mb, figures.pop("peak_rss_mb"))
        for name, value in figures.items():
            self.more.setdefault(name, []).append(value)


class Excluded(Exception):
    """Why a program is not measured, or not any more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all programs share."""

    folder: Path  # a Hugging Face checkpoint
    threads: int
    rounds: int
    turn_seconds: float  # the time limit of a measurement
    places: Mapping[str, str] = field(default_factory=dict[str, str])  # of peers' Pythons and programs, by peer


def measure(
    programs: Sequence[str],
    precisions: Sequence[Precision],
    jobs: Sequence[Job],
    settings: Settings,
    log: Callable[[str], None],
    at_round: Callable[[], None] = lambda: None,
) -> Iterator[Measurements]:
    """Measure every program in every precision that it supports; measurements grow in place, and are yielded each time.

    One precision at a time, so that only its workers are in memory; a program has one worker for each module of
    workloads. Calls `at_round` before each round, with no program at work.
    """
    for precision in precisions:
        with ExitStack() as stack:
            workers: dict[tuple[str, str], Worker] = {}  # by program and module
            for program in programs:
                own_jobs = [job for job in jobs if takes_part(program, job.what, precision)]
                for module in dict.fromkeys(MODULES.values()):
                    own = [job for job in own_jobs if MODULES[job.what] == module]
                    if not own:
                        continue
                    log(f"Loading {program} in {precision}")
                    try:
                        workers[program, module] = stack.enter_context(Worker(program, precision, own, settings))
                    except Excluded as reason:
                        log(f"{program} in {precision} is left out: {reason}.")
            for turn in range(settings.rounds):
                at_round()
                for job in jobs:
                    for program in programs:
                        worker = workers.get((program, MODULES[job.what]))
                        if worker is None or job not in worker.measurements:
                            continue
                        try:
                            measurements = worker.measure(job)
                        except Excluded as reason:
                            log(f"{program} in {precision} is left out from here on: {reason}.")
                            workers.pop((program, MODULES[job.what])).close()
                            continue
                        what = f"{job.label}, batch {job.batch}, {precision}: {program}"
                        log(f"round {turn + 1} of {settings.rounds}: {what} {measurements.rates[-1]:.0f} tokens/s")
                        yield measurements


class Worker:
    """A program in a process of its own, for jobs of one module; ends with the `with` block.

    Raises Excluded when the program does not load.
    """

    def __init__(self, program: str, precision: Precision, jobs: Sequence[Job], settings: Settings) -> None:
        module = MODULES[jobs[0].what]
        self._turn_seconds = settings.turn_seconds
        self._places = settings.places
        self._stop_timeout = 0.0 if module == "inference" else STOP_TIMEOUT
        self._order = {
            "program": program,
            "module": module,
            "precision": precision,
            "folder": str(settings.folder),
            "threads": settings.threads,
            "batch": max(job.batch for job in jobs),
        }
        self._is_busy = False  # between an order and its answer
        self.measurements = {job: Measurements(job, program, precision) for job in jobs}

    def __enter__(self) -> Self:
        try:
            self._start({**self._order, "prepare": True})
            self._read(LOAD_TIMEOUT)
            self.close()
            self._start(self._order)
            seconds = self._read(LOAD_TIMEOUT)["load_seconds"]
            for measurements in self.measurements.values():
                measurements.load_seconds = seconds
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def measure(self, job: Job) -> Measurements:
        """Measure a job once more; returns its measurements so far. Raises Excluded."""
        try:
            os.write(self._stdin, json.dumps(asdict(job)).encode() + b"\n")
        except OSError:
            raise Excluded(self._exit_reason()) from None
        self.measurements[job].add(self._read(self._turn_seconds))
        return self.measurements[job]

    def close(self) -> None:
        """End the process and its children; amid a measurement, without waiting for the measurement's end."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        if self._is_busy:
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._stop_timeout)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _start(self, order: Mapping[str, object]) -> None:
        threads = {"OMP_NUM_THREADS": str(order["threads"]), "TOKENIZERS_PARALLELISM": "false"}
        python, path = self._interpreter(str(order["program"]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            ending_with_parent([python, "-m", "resonance.bench.worker", json.dumps(order)], signal.SIGKILL),
            env={**os.environ, **threads, **path, **environment(dict(self._places))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # so that `close` reaches all of its processes
        )
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()

    def _interpreter(self, program: str) -> tuple[str, dict[str, str]]:
        # A peer's own Python finds this package, which needs none of its dependencies there.
        name = program.split(maxsplit=1)[0]
        if name not in INTERPRETERS or name not in self._places:
            return sys.executable, {}
        return self._places[name], {"PYTHONPATH": str(Path(__file__).parents[2])}

    def _read(self, timeout: float) -> dict[str, Any]:
        self._is_busy, line, deadline = True, b"", time.monotonic() + timeout
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Excluded(f"it took longer than {timeout:g} s")
            part = os.read(self._stdout, 65536)
            if not part:
                raise Excluded(self._exit_reason())
            line += part
        self._is_busy = False
        result: dict[str, Any] = json.loads(line)
        if "unsupported" in result:
            raise Excluded(result["unsupported"])
        return result

    def _exit_reason(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["it logged nothing"]
        return f"it ended with code {code} ({lines[-1][:300]})"
