"""A benchmark's figures beside the machine's limits, as a table (Markdown in files) and as JSON."""

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
from resonance.bench.runner import Measurements
from resonance.bench.workloads import MODULES
from resonance.model_config import GPT2Config

FILE_WIDTH = 400  # columns of output into a file, so that a table's row stays one line


@dataclass(frozen=True, slots=True)
class Row:
    """One program's measurements of one job, and the machine's ceiling for it."""

    measurements: Measurements
    ceiling: float | None

    @property
    def share(self) -> float | None:
        """The median's share of the ceiling."""
        return median(self.measurements.rates) / self.ceiling if self.ceiling else None

    @property
    def more(self) -> dict[str, float]:
        """Medians of the figures other than the speed."""
        return {name: median(values) for name, values in self.measurements.more.items()}

    def as_json(self) -> dict[str, object]:
        """The design's fields, then the job's other figures."""
        rates = self.measurements.rates
        return {
            "what": self.measurements.job.what,
            "who": self.measurements.program,
            "batch": self.measurements.job.batch,
            "precision": self.measurements.precision,
            "tokens_per_s": {"median": median(rates), "min": min(rates), "max": max(rates)},
            "ceiling_share": self.share,
            "peak_rss_mb": self.measurements.peak_rss_mb,
            "load_seconds": round(self.measurements.load_seconds, 2),
            **self.more,
        }


def rows(measured: Sequence[Measurements], config: GPT2Config, machine: Machine) -> list[Row]:
    """Measurements with the machine's ceilings, which decoding and prefill have."""

    def ceiling(measurements: Measurements) -> float | None:
        job, precision = measurements.job, measurements.precision
        if job.what == "decode":
            position = job.prompt_tokens + job.new_tokens // 2
            return limits.decode_ceiling(machine, config, precision, job.batch, position)
        if job.what == "prefill":
            return limits.prefill_ceiling(machine, config, precision, job.prompt_tokens)
        return None

    return [Row(measurements, ceiling(measurements)) for measurements in measured]


def write_json(path: Path, machine: Machine, rows: Sequence[Row]) -> None:
    """Write all figures so far, in the design's form."""
    figures = {"machine": machine.as_json(), "rows": [row.as_json() for row in rows]}
    write_text_atomically(path, json.dumps(figures, indent=2) + "\n")


def make_console() -> Console:
    """A console on the terminal, or one wide enough for a table's row on a file."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def print_machine(console: Console, machine: Machine) -> None:
    """Print the machine's limits."""
    console.print(f"{machine.processor}, {machine.threads} threads, torch {machine.torch}")
    if machine.kernels_unavailable is not None:
        console.print(f"resonance computes with torch instead of its C++ kernels: {machine.kernels_unavailable}")
    for what, rates, unit in (
        ("reads GB/s", machine.read_gb_per_s, "over MB"),
        ("multiplies GFLOP/s", machine.matmul_gflop_per_s, "in"),
    ):
        console.print(f"{what}: " + ", ".join(f"{rate:.0f} {unit} {name}" for name, rate in rates.items()))


def print_table(console: Console, rows: Sequence[Row]) -> None:
    """Print all rows, by workload and batch; as Markdown where the console is no terminal."""
    order = list(MODULES)
    headings = ("what", "batch", "precision", "who", "tokens/s", "min - max", "ceiling", "share", "peak MB", "load s")
    table = Table(
        *headings,
        Column("", overflow="fold"),
        box=box.HEAVY_HEAD if console.is_terminal else box.MARKDOWN,
    )
    for row in sorted(rows, key=lambda row: (order.index(row.measurements.job.what), row.measurements.job.batch)):
        measurements = row.measurements
        rates, job = measurements.rates, measurements.job
        table.add_row(
            job.what,
            str(job.batch),
            measurements.precision,
            measurements.program,
            f"{median(rates):.0f}",
            f"{min(rates):.0f} - {max(rates):.0f}",
            f"{row.ceiling:.0f}" if row.ceiling else "",
            f"{row.share:.0%}" if row.share else "",
            str(measurements.peak_rss_mb),
            f"{measurements.load_seconds:.1f}",
            ", ".join(f"{name} {value:.2f}" for name, value in row.more.items()),
        )
    console.print(table)
