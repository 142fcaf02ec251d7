"""Programs take turns: each is loaded once in a process of its own, and idles while another is measured.

A program that fails, or takes longer than it may, is left out with the reason, and the others go on.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from resonance.bench.peers import PRECISIONS
from resonance.engine.quantize import Precision

OWN = ("mixed", "turns", "quoting")  # jobs that only the engine knows
LOADING_SECONDS = 600.0  # converting and loading may take


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured."""

    what: str
    batch: int
    prompt_tokens: int
    new_tokens: int
    repeats: int


@dataclass(slots=True)
class Figures:
    """One program's measurements of one job, of all rounds so far."""

    job: Job
    who: str
    precision: Precision
    rates: list[float] = field(default_factory=list[float])
    more: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    peak_rss_mb: int = 0

    def add(self, told: dict[str, Any]) -> None:
        """Take a worker's answer."""
        self.rates += told.pop("tokens_per_s")
        self.peak_rss_mb = max(self.peak_rss_mb, told.pop("peak_rss_mb"))
        for name, value in told.items():
            self.more.setdefault(name, []).append(value)


class Left(Exception):
    """Why a program takes no part (any more)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all programs share."""

    folder: Path  # a Hugging Face checkpoint
    threads: int
    rounds: int
    turn_seconds: float  # no measurement may take longer


def measure(
    who: Sequence[str],
    precisions: Sequence[Precision],
    jobs: Sequence[Job],
    setting: Setting,
    tell: Callable[[str], None],
) -> Iterator[Figures]:
    """Measure every program in every precision that it has; figures grow in place, and are yielded as they do."""
    for precision in precisions:
        names = [name for name in who if precision in PRECISIONS[name]]
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            for name in names:
                own = [job for job in jobs if name == "resonance" or job.what not in OWN]
                if own:
                    tell(f"Loading {name} in {precision}")
                    try:
                        workers[name] = stack.enter_context(Worker(name, precision, own, setting))
                    except Left as reason:
                        tell(f"{name} in {precision} is left out: {reason}.")
            for turn in range(setting.rounds):
                for at in range(len(jobs)):
                    for name in list(workers):
                        if jobs[at] not in workers[name].figures:
                            continue
                        try:
                            figures = workers[name].measure(jobs[at])
                        except Left as reason:
                            tell(f"{name} in {precision} is left out from here on: {reason}.")
                            workers.pop(name).close()
                            continue
                        rate = figures.rates[-1]
                        tell(
                            f"round {turn + 1} of {setting.rounds}: {jobs[at].what}, batch {jobs[at].batch}, "
                            f"{precision}: {name} {rate:.0f} tokens/s"
                        )
                        yield figures


class Worker:
    """A program in its process, which ends with the `with` block. Raises Left when it does not load."""

    def __init__(self, who: str, precision: Precision, jobs: Sequence[Job], setting: Setting) -> None:
        self._turn_seconds = setting.turn_seconds
        self._order = {
            "who": who,
            "precision": precision,
            "folder": str(setting.folder),
            "threads": setting.threads,
            "batch": max(job.batch for job in jobs),
        }
        self.figures = {job: Figures(job, who, precision) for job in jobs}

    def __enter__(self) -> Self:
        self._start({**self._order, "prepare": True})
        try:
            self._answer(LOADING_SECONDS)
        finally:
            self.close()
        self._start(self._order)
        try:
            self._answer(LOADING_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def measure(self, job: Job) -> Figures:
        """Measure once; the figures of this job so far. Raises Left."""
        try:
            os.write(self._stdin, json.dumps(asdict(job)).encode() + b"\n")
        except OSError:
            raise Left(self._last_words()) from None
        self.figures[job].add(self._answer(self._turn_seconds))
        return self.figures[job]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _start(self, order: Mapping[str, object]) -> None:
        threads = {"OMP_NUM_THREADS": str(order["threads"]), "TOKENIZERS_PARALLELISM": "false"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "resonance.bench.worker", json.dumps(order)],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()

    def _answer(self, seconds: float) -> dict[str, Any]:
        told, deadline = b"", time.monotonic() + seconds
        while not told.endswith(b"\n"):
            ready, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Left(f"it took longer than {seconds:g} s")
            part = os.read(self._stdout, 65536)
            if not part:
                raise Left(self._last_words())
            told += part
        answer: dict[str, Any] = json.loads(told)
        if "unsupported" in answer:
            raise Left(answer["unsupported"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return f"it ended with code {code} ({lines[-1][:300]})"
