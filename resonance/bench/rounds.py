"""Programs take turns: each is loaded once in a process of its own, and idles while another is measured.

A program that fails, or takes longer than it may, is left out with the reason, and the others go on.
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

from resonance.bench.peers import PRECISIONS
from resonance.engine.quantization import Precision

OWN = ("mixed", "turns", "quoting")  # jobs that only the engine knows
KINDS: dict[str, dict[str, tuple[Precision, ...]]] = {  # jobs for which programs are loaded in another way, and whose
    "serve": {"resonance": PRECISIONS["resonance"], "llama.cpp": PRECISIONS["llama.cpp"]},
    "train": {"resonance": ("fp32", "bf16"), "transformers": ("fp32", "bf16")},
}
LOADING_SECONDS = 600.0  # converting and loading may take
ENDING_SECONDS = 20.0  # until a program of another kind has ended what it started


def takes_part(who: str, what: str, precision: Precision) -> bool:
    """Whether a program does a kind of job in a precision."""
    if what in KINDS:
        return precision in KINDS[what].get(who, ())
    return precision in PRECISIONS[who] and (who == "resonance" or what not in OWN)


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
    load_seconds: float = 0.0

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
        with ExitStack() as stack:
            workers: dict[tuple[str, str], Worker] = {}  # by name and kind
            for name in who:
                for kind in ("", *KINDS):
                    own = [
                        job
                        for job in jobs
                        if (job.what if job.what in KINDS else "") == kind and takes_part(name, job.what, precision)
                    ]
                    if not own:
                        continue
                    tell(f"Loading {name} in {precision}")
                    try:
                        workers[name, kind] = stack.enter_context(Worker(name, precision, own, setting, kind))
                    except Left as reason:
                        tell(f"{name} in {precision} is left out: {reason}.")
            for turn in range(setting.rounds):
                for at in range(len(jobs)):
                    for name, kind in list(workers):
                        if jobs[at] not in workers[name, kind].figures:
                            continue
                        try:
                            figures = workers[name, kind].measure(jobs[at])
                        except Left as reason:
                            tell(f"{name} in {precision} is left out from here on: {reason}.")
                            workers.pop((name, kind)).close()
                            continue
                        rate = figures.rates[-1]
                        tell(
                            f"round {turn + 1} of {setting.rounds}: {jobs[at].what}, batch {jobs[at].batch}, "
                            f"{precision}: {name} {rate:.0f} tokens/s"
                        )
                        yield figures


class Worker:
    """A program in its process, which ends with the `with` block. Raises Left when it does not load."""

    def __init__(self, who: str, precision: Precision, jobs: Sequence[Job], setting: Setting, kind: str = "") -> None:
        self._turn_seconds = setting.turn_seconds
        self._ending_seconds = ENDING_SECONDS if kind else 0.0
        self._order = {
            "who": who,
            "kind": kind,
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
            seconds = self._answer(LOADING_SECONDS)["load_seconds"]
            for figures in self.figures.values():
                figures.load_seconds = seconds
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
        """End the process, and what it has started."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._ending_seconds)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
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
            start_new_session=True,  # so that `close` reaches all of its processes
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
