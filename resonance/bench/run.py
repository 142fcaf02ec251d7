"""`resonance bench`: programs take turns on the same weights; medians, spread, and shares of the machine's limits."""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from resonance.bench.machine import Machine, decode_ceiling, measure, prefill_ceiling
from resonance.bench.peers import MODULES, PRECISIONS
from resonance.checkpoint import Checkpoint
from resonance.config import compose
from resonance.engine.quantize import Precision
from resonance.errors import ResonanceError
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

WHAT = ("decode", "prefill", "mixed")
PEERS = {"transformers": "transformers", "ctranslate2": "ctranslate2", "llamacpp": "llama.cpp"}
TURN_SECONDS = 1800


class BenchError(ResonanceError):
    """A measurement that cannot be made."""


@dataclass(frozen=True, slots=True)
class Row:
    """One program's figures for one job."""

    what: str
    who: str
    batch: int
    precision: Precision
    rates: list[float]
    ceiling: float | None
    peak_rss_mb: int
    more: dict[str, float]

    def as_json(self) -> dict[str, object]:
        """In the form of the design, with what else was measured after it."""
        return {
            "what": self.what,
            "who": self.who,
            "batch": self.batch,
            "precision": self.precision,
            "tokens_per_s": {"median": median(self.rates), "min": min(self.rates), "max": max(self.rates)},
            "ceiling_share": median(self.rates) / self.ceiling if self.ceiling else None,
            "peak_rss_mb": self.peak_rss_mb,
            **self.more,
        }


def main(overrides: list[str]) -> None:
    """Measure what `configs/bench.yaml` and its overrides say; print a table, write JSON."""
    config = compose("bench", overrides)
    jobs = _jobs(config)
    programs = _programs(config)
    console = Console()
    threads = config.threads or len(os.sched_getaffinity(0))
    with console.status("Measuring the machine"):
        machine = measure(threads)
    with tempfile.TemporaryDirectory() as work:
        folder, sizes = _weights(config, Path(work))
        rows = list(_measure(console, programs, jobs, folder, sizes, machine, config.rounds))
    _print(console, machine, rows)
    if config.json is not None:
        figures = {"machine": machine.as_json(), "rows": [row.as_json() for row in rows]}
        Path(config.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, ListConfig) else [value]


def _jobs(config: DictConfig) -> list[dict[str, object]]:
    what = [str(word) for word in _listed(config.what)]
    for word in what:
        if word in ("train", "serve"):
            raise BenchError(f"what={word} is not measured here; `resonance {word}` reports its own speed.")
        if word not in WHAT:
            raise BenchError(f"what must be of {', '.join(WHAT)}, not {word!r}.")
    batches = [int(str(batch)) for batch in _listed(config.batch)]
    if min(batches) < 1 or min(config.rounds, config.repeats) < 1 or config.new_tokens < 2:
        raise BenchError("batch, rounds and repeats must be at least 1 and new_tokens at least 2.")
    return [
        {
            "what": word,
            "batch": batch,
            "prompt_tokens": config.prefill_tokens if word == "prefill" else config.prompt_tokens,
            "new_tokens": config.new_tokens,
            "repeats": config.repeats,
        }
        for word in what
        for batch in batches
    ]


def _programs(config: DictConfig) -> list[tuple[str, Precision]]:
    names = ["resonance"]
    for peer in (str(word) for word in _listed(config.peer)):
        if peer not in PEERS:
            raise BenchError(f"peer must be of {', '.join(PEERS)}, not {peer!r}.")
        if find_spec(MODULES[PEERS[peer]]) is None:
            raise BenchError(f"peer={peer} is not installed; `pip install 'resonance[bench]'` brings it.")
        names.append(PEERS[peer])
    wanted = [str(word) for word in _listed(config.precision)]
    known = PRECISIONS["resonance"]
    for word in wanted:
        if word not in known:
            raise BenchError(f"precision must be of {', '.join(known)}, not {word!r}.")
    return [
        (name, precision)
        for precision in known
        if precision in wanted
        for name in names
        if precision in PRECISIONS[name]
    ]


def _weights(config: DictConfig, work: Path) -> tuple[Path, GPT2Config]:
    # A folder that every program can read, and which stays the same for all of them.
    if config.checkpoint is not None:
        checkpoint = Checkpoint.find(config.checkpoint)
        model, tokenizer, metadata = checkpoint.load_model(), checkpoint.load_tokenizer(), checkpoint.metadata
        return Checkpoint.save(work / "model", model, tokenizer, metadata).folder, model.config
    torch.manual_seed(0)
    model = GPT2(GPT2Config.preset(config.model))
    return Checkpoint.save(work / "model", model, Tokenizer.gpt2()).folder, model.config


def _measure(
    console: Console,
    programs: Sequence[tuple[str, Precision]],
    jobs: Sequence[dict[str, object]],
    folder: Path,
    sizes: GPT2Config,
    machine: Machine,
    rounds: int,
) -> Iterator[Row]:
    rates: dict[tuple[str, Precision, int], list[float]] = defaultdict(list)
    more: dict[tuple[str, Precision, int], dict[str, float]] = {}
    peaks: dict[tuple[str, Precision], int] = {}
    turns = [program for _ in range(rounds) for program in programs]
    for who, precision in track(turns, "Measuring", console=console, transient=True):
        own = [job for job in jobs if who == "resonance" or job["what"] != "mixed"]
        order = {"who": who, "folder": str(folder), "precision": precision, "threads": machine.threads, "jobs": own}
        told: dict[str, Any] = _turn(order) if own else {}  # mixed load is the engine's own
        if "measured" not in told:
            continue
        peaks[who, precision] = max(peaks.get((who, precision), 0), told["peak_rss_mb"])
        for job, figures in zip(own, told["measured"], strict=True):
            key = (who, precision, jobs.index(job))
            rates[key] += figures["tokens_per_s"]
            more[key] = {name: figures[name] for name in ("share_of_static", "gap_p95_over_median") if name in figures}
    for at, job in enumerate(jobs):
        for who, precision in programs:
            if not rates[who, precision, at]:
                continue
            batch, what = int(str(job["batch"])), str(job["what"])
            prompt, new = int(str(job["prompt_tokens"])), int(str(job["new_tokens"]))
            ceiling = None
            if what == "decode":
                ceiling = decode_ceiling(machine, sizes, precision, batch, prompt + new // 2)
            elif what == "prefill":
                ceiling = prefill_ceiling(machine, sizes, precision, prompt)
            key = (who, precision, at)
            yield Row(what, who, batch, precision, rates[key], ceiling, peaks[who, precision], more[key])


def _turn(order: Mapping[str, object]) -> dict[str, Any]:
    threads = {"OMP_NUM_THREADS": str(order["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-m", "resonance.bench.worker", json.dumps(order)],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=TURN_SECONDS,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(f"{order['who']} in {order['precision']} ended with code {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _print(console: Console, machine: Machine, rows: Sequence[Row]) -> None:
    read = ", ".join(f"{rate:.0f} over {size} MB" for size, rate in machine.read_gb_per_s.items())
    matmul = ", ".join(f"{rate:.0f} {name}" for name, rate in machine.matmul_gflop_per_s.items())
    console.print(f"{machine.processor}, {machine.threads} threads, torch {machine.torch}")
    console.print(f"Reads GB/s: {read}. Multiplies GFLOP/s: {matmul}.")
    table = Table("what", "batch", "precision", "who", "tokens/s", "min - max", "of ceiling", "peak MB", "")
    for row in rows:
        table.add_row(
            row.what,
            str(row.batch),
            row.precision,
            row.who,
            f"{median(row.rates):.0f}",
            f"{min(row.rates):.0f} - {max(row.rates):.0f}",
            f"{median(row.rates) / row.ceiling:.0%}" if row.ceiling else "",
            str(row.peak_rss_mb),
            ", ".join(f"{name} {value:.2f}" for name, value in row.more.items()),
        )
    console.print(table)
