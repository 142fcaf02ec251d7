"""`what=train` and `what=dense`: tokens a second and memory of training, as each program's users run it.

train: instructions, a batch of examples in as many packed rows as hold about as many tokens. dense: rows of 512 tokens
that are one text each, and every token is learnt. Nothing is dropped out, and every program trains in fp32, or in bf16
where autocast applies it.

The library does not import the training room, so it runs `resonance train` end to end and reads the speed from
`metrics.csv`. The peers train in this process.
"""

import csv
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from resonance.bench import memory
from resonance.bench.job import Job
from resonance.bench.workloads import Measure, examples

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

PEERS = {"nanogpt": "nanogpt"}  # the others are libraries around transformers


def prepare(program: str, folder: Path, precision: "Precision") -> None:
    """Nothing: all programs read the checkpoint, and the examples beside it."""


@contextmanager
def load(program: str, folder: Path, precision: "Precision", batch: int, threads: int) -> Generator[Measure]:
    """Load a program that trains: `resonance train`, one run for each measurement, or a peer in this process."""
    if program == "resonance":
        yield lambda job: _run_command(folder, precision, job)
        return
    peer: Any = import_module(f"resonance.bench.peers.{PEERS.get(program, 'transformers_training')}")
    trainer = peer.load_trainer(program, folder, precision, threads)

    def measure(job: Job) -> dict[str, object]:
        memory.reset_peak()
        steps = trainer.steps(examples.read(folder, job.what), job.repeats + 1, job.batch)
        return {"tokens_per_s": list(steps)[1:]}  # the first is a warm-up

    yield measure


def _run_command(folder: Path, precision: "Precision", job: Job) -> dict[str, object]:
    # Tokens a second of every step but the first, padding not counted; memory with that of saving the run.
    from resonance.checkpoint import Checkpoint

    row_length = examples.ROW_LENGTH[job.what]
    length = mean(len(example.input_ids) for example in examples.read(folder, job.what))
    with tempfile.TemporaryDirectory() as runs:
        overrides = {
            "checkpoints_dir": runs,
            "run": "bench",
            "model.weights": folder,
            "model.dropout": 0.0,
            "template": Checkpoint.open(folder).template().name,
            "data": "json",
            "data.path": examples.text_file(folder, job.what),
            "data.train": 1.0,
            "data.test": 0.0,
            "data.validation": 0.0,
            "data_cache": "false",
            "batch.size": max(1, round(job.batch * length / row_length)),
            "batch.row_length": row_length,
            "objective.loss_on": "all" if job.what == "dense" else "answers",
            "trainer.max_steps": job.repeats + 1,
            "trainer.log_every_n_steps": 1,
            "trainer.precision": "32-true" if precision == "fp32" else "bf16-mixed",
            "callbacks.progress": "false",
            "callbacks.samples.every_n_steps": 0,
            "logger": "none",
        }
        command = ["-m", "resonance.cli", "train", *(f"{key}={value}" for key, value in overrides.items())]
        done = memory.run([sys.executable, *command])
        if done.returncode:
            raise RuntimeError(f"`resonance train` ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
        with (Path(runs) / "bench" / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rates = [float(row["tokens_per_s"]) for row in csv.DictReader(file)]
    return {"tokens_per_s": rates[1:], "peak_rss_mb": done.peak_mb}
