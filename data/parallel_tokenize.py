"""Tokenises a split in several processes, part by part and in order, with a progress bar.

The processes are programs of their own that read jobs and write parts through pipes. Those of `multiprocessing` would
either import the user's script again, or be forked, and hang on a lock that another thread held. A process ends when
its pipe is closed, however this one ends.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Container, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data import DataError
from data.example_file import StoredExamples
from data.tokenize import Part, tokenize_part
from resonance.chat_template import ChatTemplate

PART = 1000  # examples; a process holds one part in memory
MIN_PARTS = 10  # fewer are tokenised before other processes have started
MAX_PROCESSES = 32
WORK = "from data.parallel_tokenize import work; work()"


@dataclass(frozen=True, slots=True)
class Job:
    """What a split is tokenised with; sent once to each process."""

    examples: StoredExamples
    template: ChatTemplate
    context_length: int
    held_out: Container[int]

    def part(self, start: int, end: int) -> Part:
        """Tokenise the examples from `start` to `end`."""
        return tokenize_part(
            self.examples[start:end],
            self.template,
            self.context_length,
            held_out=self.held_out,
            first=start,
        )


def parts_of(job: Job) -> Iterator[Part]:
    """Yield the parts of a split, in order. Raises DataError as `tokenize` does."""
    count = len(job.examples)
    left = deque((start, min(start + PART, count)) for start in range(0, count, PART))
    processes = min(_processors(), MAX_PROCESSES)
    if processes > 1 and len(left) >= MIN_PARTS:
        try:
            yield from _in_processes(job, left, processes)
        except (EOFError, OSError, pickle.PickleError):  # killed, or unable to start
            get_console().print("a process that tokenised has ended; this one goes on alone", soft_wrap=True)
    while left:
        yield job.part(*left.popleft())


def _in_processes(job: Job, left: deque[tuple[int, int]], processes: int) -> Iterator[Part]:
    """Yield parts, and remove each from `left`. Raises EOFError where a process ends."""
    workers: deque[Worker] = deque()
    try:
        workers.extend(Worker(job) for _ in range(processes))
        ahead = 2 * processes  # parts that are requested and not yet read; two for each process
        for i, part in enumerate(tuple(left)[:ahead]):
            workers[i % processes].request(part)
        while left:
            result = workers[0].result()
            if isinstance(result, DataError):
                raise result
            if len(left) > ahead:
                workers[0].request(left[ahead])
            workers.rotate(-1)
            left.popleft()
            yield result
    finally:
        for worker in workers:
            worker.close()


class Worker:
    """A process that runs `work`."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            start_new_session=True,  # Ctrl-C is for this process, which closes the pipe
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._results = self._process.stdin, self._process.stdout
        self._send(job)

    def request(self, part: tuple[int, int]) -> None:
        """Ask for a part, by its start and end."""
        self._send(part)

    def result(self) -> Part | DataError:
        """Return the next part, or the error that it raised."""
        return pickle.load(self._results)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with suppress(OSError):
            self._requests.close()
        self._results.close()
        self._process.wait()

    def _send(self, message: Job | tuple[int, int]) -> None:
        pickle.dump(message, self._requests)
        self._requests.flush()


def work() -> None:
    """Read a job from standard input, then starts and ends of parts; write each part, or its error, to the output."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints does not mix with the results
    try:
        job: Job = pickle.load(sys.stdin.buffer)
        while True:
            start, end = pickle.load(sys.stdin.buffer)
            try:
                result: Part | DataError = job.part(start, end)
            except DataError as error:
                result = error
            pickle.dump(result, results)
            results.flush()
    except (EOFError, BrokenPipeError):  # the other process has ended
        os._exit(0)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def progress_bar(what: str, total: int | None) -> Generator[Callable[[int], None]]:
    """Show a bar while the block runs; the block calls what it is given with a number of further examples.

    Without a terminal, one line says that a large split is being tokenised.
    """
    console = get_console()
    if not console.is_terminal:
        if total is not None and total >= PART * MIN_PARTS:
            console.print(f"{what}: {total:,} examples", highlight=False, markup=False, soft_wrap=True)
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
