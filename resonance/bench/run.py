"""`resonance bench`: programs take turns on the same weights; medians, spread, and shares of the machine's limits."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import cast

import torch
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from resonance.bench import machine as limits
from resonance.bench.machine import Machine
from resonance.bench.peers import MODULES, PRECISIONS
from resonance.bench.rounds import KINDS, OWN, Figures, Job, Setting, measure, takes_part
from resonance.checkpoint import Checkpoint
from resonance.config import compose
from resonance.engine.quantize import Precision
from resonance.errors import ResonanceError
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

WHAT = ("decode", "prefill", *OWN, *KINDS)
PEERS = {"transformers": "transformers", "ctranslate2": "ctranslate2", "llamacpp": "llama.cpp"}
SIZES = ("n_layer", "n_head", "n_embd", "context_length", "tie_weights", "initializer_range")
FILE_WIDTH = 120  # of what is printed into a file


class BenchError(ResonanceError):
    """A measurement that cannot be made."""


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


def main(overrides: list[str]) -> None:
    """Measure what `configs/bench.yaml` and its overrides say; print a table, write JSON."""
    config = compose("bench", overrides)
    jobs, programs, precisions = _jobs(config), _programs(config), _precisions(config)
    threads = config.threads or len(os.sched_getaffinity(0))
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    console.print(f"Measuring the machine with {threads} threads ...")
    machine = limits.measure(threads)
    _print_machine(console, machine)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with tempfile.TemporaryDirectory() as work, Progress(*columns, console=console, transient=True) as progress:
        console.print(f"Writing {config.checkpoint or config.model.name} for all programs ...")
        folder, sizes = _weights(config, Path(work))
        told: list[Figures] = []
        total = config.rounds * sum(
            takes_part(who, job.what, precision) for who in programs for job in jobs for precision in precisions
        )
        task = progress.add_task("Measuring", total=total)
        setting = Setting(folder, threads, config.rounds, config.turn_seconds)
        try:
            for figures in measure(programs, precisions, jobs, setting, partial(console.print, soft_wrap=True)):
                if not any(figures is known for known in told):
                    told.append(figures)
                progress.advance(task)
                _write(config, machine, _rows(told, sizes, machine))
        finally:  # what was measured before an interruption is worth seeing
            progress.stop()
            _print(console, _rows(told, sizes, machine))


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, ListConfig) else [value]


def _jobs(config: DictConfig) -> list[Job]:
    what = [str(word) for word in _listed(config.what)]
    for word in what:
        if word not in WHAT:
            raise BenchError(f"what must be of {', '.join(WHAT)}, not {word!r}.")
    for name, least in (("rounds", 1), ("repeats", 1), ("new_tokens", 2), ("prompt_tokens", 1), ("prefill_tokens", 1)):
        if not isinstance(config[name], int) or config[name] < least:
            raise BenchError(f"{name} must be a whole number of at least {least}, not {config[name]!r}.")
    for batch in _listed(config.batch):
        if not isinstance(batch, int) or batch < 1:
            raise BenchError(f"batch must be made of whole numbers of at least 1, not {batch!r}.")
    return [
        Job(
            what=word,
            batch=cast("int", batch),
            prompt_tokens=config.prefill_tokens if word == "prefill" else config.prompt_tokens,
            new_tokens=config.new_tokens,
            repeats=config.repeats,
        )
        for word in what
        for batch in _listed(config.batch)
    ]


def _programs(config: DictConfig) -> list[str]:
    names = ["resonance"]
    for peer in (str(word) for word in _listed(config.peer)):
        if peer not in PEERS:
            raise BenchError(f"peer must be of {', '.join(PEERS)}, not {peer!r}.")
        if find_spec(MODULES[PEERS[peer]]) is None:
            raise BenchError(f"peer={peer} is not installed; `pip install 'resonance[bench]'` brings it.")
        names.append(PEERS[peer])
    return names


def _precisions(config: DictConfig) -> list[Precision]:
    wanted = [str(word) for word in _listed(config.precision)]
    known = PRECISIONS["resonance"]
    for word in wanted:
        if word not in known:
            raise BenchError(f"precision must be of {', '.join(known)}, not {word!r}.")
    return [precision for precision in known if precision in wanted]


def _weights(config: DictConfig, work: Path) -> tuple[Path, GPT2Config]:
    # A folder that every program can read, and which stays the same for all of them.
    if config.checkpoint is not None:
        checkpoint = Checkpoint.find(config.checkpoint)
        model, tokenizer, metadata = checkpoint.load_model(), checkpoint.load_tokenizer(), checkpoint.metadata
        return Checkpoint.save(work / "model", model, tokenizer, metadata).folder, model.config
    torch.manual_seed(0)
    sizes = {name: config.model[name] for name in SIZES}
    model = GPT2(GPT2Config(**sizes))
    return Checkpoint.save(work / "model", model, Tokenizer.gpt2()).folder, model.config


def _rows(told: Sequence[Figures], sizes: GPT2Config, machine: Machine) -> list[Row]:
    def ceiling(figures: Figures) -> float | None:
        job = figures.job
        if job.what == "decode":
            position = job.prompt_tokens + job.new_tokens // 2
            return limits.decode_ceiling(machine, sizes, figures.precision, job.batch, position)
        if job.what == "prefill":
            return limits.prefill_ceiling(machine, sizes, figures.precision, job.prompt_tokens)
        return None

    return [Row(figures, ceiling(figures)) for figures in told]


def _write(config: DictConfig, machine: Machine, rows: Sequence[Row]) -> None:
    if config.json is not None:
        figures = {"machine": machine.as_json(), "rows": [row.as_json() for row in rows]}
        Path(config.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _print_machine(console: Console, machine: Machine) -> None:
    console.print(f"{machine.processor}, {machine.threads} threads, torch {machine.torch}")
    for what, rates, unit in (
        ("reads GB/s", machine.read_gb_per_s, "over MB"),
        ("multiplies GFLOP/s", machine.matmul_gflop_per_s, "in"),
    ):
        console.print(f"{what}: " + ", ".join(f"{rate:.0f} {unit} {name}" for name, rate in rates.items()))


def _print(console: Console, rows: Sequence[Row]) -> None:
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
    )
    for row in sorted(rows, key=lambda row: (WHAT.index(row.figures.job.what), row.figures.job.batch)):
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
