"""A benchmark's figures beside the machine's limits, as a table (Markdown in files) and as JSON."""

import json
from collections.abc import Mapping, Sequence
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
from resonance.bench.workloads.examples import Statistics
from resonance.model_config import GPT2Config

FILE_WIDTH = 400  # columns of output into a file, so that a table's row stays one line


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the machine allows each job."""

    machine: Machine
    config: GPT2Config
    trained: Mapping[str, Statistics]  # the examples of a training workload

    def of(self, figures: Measurements) -> float | None:
        """Tokens a second; None where no limit is known."""
        job, machine, config, precision = figures.job, self.machine, self.config, figures.precision
        if job.what in ("decode", "growth"):
            position = job.prompt_tokens + job.new_tokens // 2
            return limits.decode_ceiling(machine, config, precision, job.batch, position)
        if job.what == "prefill":
            return limits.prefill_ceiling(machine, config, precision, job.prompt_tokens)
        if (statistics := self.trained.get(job.what)) is not None:
            return limits.train_ceiling(machine, config, precision, statistics.supervised, statistics.attended)
        return None


def write_json(path: Path, ceilings: Ceilings, measured: Sequence[Measurements]) -> None:
    """Write all figures so far, in the design's form; a job's other figures follow the common fields."""
    rows: list[dict[str, object]] = []
    for figures in measured:
        rates, ceiling = figures.rates, ceilings.of(figures)
        rows.append(
            {
                "what": figures.job.what,
                "who": figures.program,
                "batch": figures.job.batch,
                "precision": figures.precision,
                "tokens_per_s": {"median": median(rates), "min": min(rates), "max": max(rates)},
                "ceiling_share": median(rates) / ceiling if ceiling else None,
                "peak_rss_mb": figures.peak_rss_mb,
                "load_seconds": round(figures.load_seconds, 2),
                **({"context": figures.job.prompt_tokens} if figures.job.what == "growth" else {}),
                **{name: median(values) for name, values in figures.more.items()},
            }
        )
    text = json.dumps({"machine": ceilings.machine.as_json(), "rows": rows}, indent=2)
    write_text_atomically(path, text + "\n")


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


def print_table(console: Console, ceilings: Ceilings, measured: Sequence[Measurements]) -> None:
    """Print all figures, by workload and batch; as Markdown where the console is no terminal."""
    headings = ("what", "batch", "precision", "who", "tokens/s", "min - max", "ceiling", "share", "peak MB", "load s")
    form = box.HEAVY_HEAD if console.is_terminal else box.MARKDOWN
    table, order = Table(*headings, Column("", overflow="fold"), box=form), list(MODULES)

    def place(figures: Measurements) -> tuple[int, int, int]:
        job = figures.job
        return order.index(job.what), job.batch, job.prompt_tokens

    for figures in sorted(measured, key=place):
        rates, ceiling = figures.rates, ceilings.of(figures)
        table.add_row(
            figures.job.label,
            str(figures.job.batch),
            figures.precision,
            figures.program,
            f"{median(rates):.0f}",
            f"{min(rates):.0f} - {max(rates):.0f}",
            f"{ceiling:.0f}" if ceiling else "",
            f"{median(rates) / ceiling:.0%}" if ceiling else "",
            str(figures.peak_rss_mb),
            f"{figures.load_seconds:.1f}",
            ", ".join(f"{name} {median(values):.2f}" for name, values in figures.more.items()),
        )
    console.print(table)
