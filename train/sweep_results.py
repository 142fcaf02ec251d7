"""The results of a sweep's jobs: a file for each, and a table of all."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import get_console
from rich.table import Table

from resonance.atomic_files import write_text_atomically
from resonance.metadata import Monitor

FILE = "job.json"


@dataclass(slots=True)
class JobResult:
    """A job of a sweep, and how it ended."""

    run: str
    folder: str  # of its checkpoint
    overrides: list[str]
    monitor: str
    mode: str
    state: str = "running"  # running, done, stopped or failed
    value: float | None = None  # of the monitored score
    error: str | None = None

    @classmethod
    def read(cls, folder: Path) -> "JobResult | None":
        """The job that wrote into `folder`; None where there was none."""
        file = folder / FILE
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def write(self, folder: Path) -> None:
        """Write the job into `folder`."""
        write_text_atomically(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    def better_than(self, other: "JobResult") -> bool:
        """Whether its score is the better one; a job without a score is worse than any with one."""
        if self.value is None or other.value is None:
            return self.value is not None
        return Monitor(self.monitor, self.value, self.mode).better_than(Monitor(self.monitor, other.value, self.mode))


def read_results(folder: Path) -> list[JobResult]:
    """The jobs of the sweep in `folder`, in their order."""
    jobs = [file.parent for file in folder.glob(f"*/{FILE}") if file.parent.name.isdigit()]
    results = [JobResult.read(job) for job in sorted(jobs, key=lambda job: int(job.name))]
    return [result for result in results if result is not None]


def print_results(results: Sequence[JobResult]) -> list[JobResult]:
    """Print the jobs, the best score first, with what sets them apart or failed; returns them in that order."""
    ranked = list[JobResult]()
    for result in results:
        place = next((i for i, other in enumerate(ranked) if result.better_than(other)), len(ranked))
        ranked.insert(place, result)
    if not ranked:
        return ranked
    settings = [_settings(result) for result in ranked]
    varied = [key for key in settings[0] if key != "run" and len({setting.get(key) for setting in settings}) > 1]
    table = Table("run", *varied, ranked[0].monitor, "state")
    for result, setting in zip(ranked, settings, strict=True):
        value = "-" if result.value is None else f"{result.value:.4f}"
        table.add_row(result.run, *(setting.get(key, "") for key in varied), value, result.state)
    console = get_console()
    console.print(table)
    for result in ranked:
        if result.error is not None:
            console.print(f"{result.run} failed: {result.error}", highlight=False, markup=False, soft_wrap=True)
    best = ranked[0]
    if best.value is not None:
        sentence = f"best: {best.run}, {best.monitor} {best.value:.4f}, in {best.folder}"
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return ranked


def _settings(result: JobResult) -> dict[str, str]:
    """The job's overrides by key."""
    parts = [override.partition("=") for override in result.overrides]
    return {key: value for key, _, value in parts}
