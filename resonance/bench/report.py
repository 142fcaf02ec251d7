"""The figures of a benchmark beside the machine's limits: as JSON, as a table, and in files as Markdown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Column, Table

from resonance.atomic_files import write_text_atomically
from resonance.bench import machine as limits
from resonance.bench.machine import Machine
from resonance.bench.rounds import Figures
from resonance.model import GPT2Config

FILE_WIDTH = 400  # of what is printed into a file: a table's row stays one line


@dataclass(frozen=True, slots=True)
class Row:
    """One program's figures for one job, beside what the machine could do."""

    figures: Figures
    ceiling: float | None

    @property
    def share(self) -> float | None:
        """The median's share of the ceiling."""
        return median(self.figures.rates) / self.ceiling if self.ceiling else None

    @property
    def more(self) -> dict[str, float]:
        """Medians of what was measured besides the speed."""
        return {name: median(values) for name, values in self.figures.more.items()}

    def as_json(self) -> dict[str, object]:
        """In the form of the design; what else a job measures stands after it."""
        rates = self.figures.rates
        return {
            "what": self.figures.job.what,
            "who": self.figures.who,
            "batch": self.figures.job.batch,
            "precision": self.figures.precision,
            "tokens_per_s": {"median": median(rates), "min": min(rates), "max": max(rates)},
            "ceiling_share": self.share,
            "peak_rss_mb": self.figures.peak_rss_mb,
            "load_seconds": round(self.figures.load_seconds, 2),
            **self.more,
        }


def rows(told: Sequence[Figures], sizes: GPT2Config, machine: Machine) -> list[Row]:
    """Figures with the machine's ceilings for what each job reads or multiplies."""

    def ceiling(figures: Figures) -> float | None:
        job = figures.job
        if job.what == "decode":
            position = job.prompt_tokens + job.new_tokens // 2
            return limits.decode_ceiling(machine, sizes, figures.precision, job.batch, position)
        if job.what == "prefill":
            return limits.prefill_ceiling(machine, sizes, figures.precision, job.prompt_tokens)
        return None

    return [Row(figures, ceiling(figures)) for figures in told]


def write_json(path: Path, machine: Machine, rows: Sequence[Row]) -> None:
    """Write all figures so far in the design's form."""
    figures = {"machine": machine.as_json(), "rows": [row.as_json() for row in rows]}
    write_text_atomically(path, json.dumps(figures, indent=2) + "\n")


def make_console() -> Console:
    """The terminal, or a file, wide enough for a row of the table."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def print_machine(console: Console, machine: Machine) -> None:
    """Say what the machine gives."""
    console.print(f"{machine.processor}, {machine.threads} threads, torch {machine.torch}")
    if machine.kernels_unavailable is not None:
        console.print(f"resonance computes with torch instead of its C++ kernels: {machine.kernels_unavailable}")
    for what, rates, unit in (
        ("reads GB/s", machine.read_gb_per_s, "over MB"),
        ("multiplies GFLOP/s", machine.matmul_gflop_per_s, "in"),
    ):
        console.print(f"{what}: " + ", ".join(f"{rate:.0f} {unit} {name}" for name, rate in rates.items()))


def print_table(console: Console, rows: Sequence[Row], order: Sequence[str]) -> None:
    """Print all rows, kinds of jobs in this order; Markdown where it is no terminal."""
    table = Table(
        "what",
        "batch",
        "precision",
        "who",
        "tokens/s",
        "min - max",
        "ceiling",
        "share",
        "peak MB",
        "load s",
        Column("", overflow="fold"),
        box=box.HEAVY_HEAD if console.is_terminal else box.MARKDOWN,
    )
    for row in sorted(rows, key=lambda row: (order.index(row.figures.job.what), row.figures.job.batch)):
        figures = row.figures
        table.add_row(
            figures.job.what,
            str(figures.job.batch),
            figures.precision,
            figures.who,
            f"{median(figures.rates):.0f}",
            f"{min(figures.rates):.0f} - {max(figures.rates):.0f}",
            f"{row.ceiling:.0f}" if row.ceiling else "",
            f"{row.share:.0%}" if row.share else "",
            str(figures.peak_rss_mb),
            f"{figures.load_seconds:.1f}",
            ", ".join(f"{name} {value:.2f}" for name, value in row.more.items()),
        )
    console.print(table)
