"""`what=train`: tokens a second and memory of fine-tuning on instructions, as `resonance train` does it end to end.

The library does not import the training room, so it runs the command and reads the speed from `metrics.csv`. A batch
of examples becomes as many packed rows as hold about as many tokens. Nothing is dropped out, and every program trains
in fp32, or in bf16 where autocast applies it.
"""

import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from resonance.bench.peers import peer
from resonance.bench.workloads import Job, Measure
from resonance.bench.workloads.synthetic_text import single_token_words
from resonance.chat_template import Message, Rendered
from resonance.checkpoint import Checkpoint

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

EXAMPLES = 512
INSTRUCTION, OUTPUT = (8, 64), (16, 128)  # words, least and most
ROW_LENGTH = 256  # tokens; longer than any example


def prepare(program: str, folder: Path, precision: "Precision") -> None:
    """Write the examples beside the checkpoint, the same for all programs."""
    peer(program).prepare(folder, precision)
    if _examples_file(folder).exists():
        return
    rng, words = random.Random(0), list(single_token_words())

    def text(lengths: tuple[int, int]) -> str:
        return "".join(rng.choices(words, k=rng.randint(*lengths))).strip()

    rows = ({"instruction": text(INSTRUCTION), "output": text(OUTPUT)} for _ in range(EXAMPLES))
    _examples_file(folder).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@contextmanager
def load(program: str, folder: Path, precision: "Precision", batch: int, threads: int) -> Generator[Measure]:
    """Load a program that trains: `resonance train`, one run for each measurement, or a peer in this process."""
    examples = _examples(folder)
    if program == "resonance":
        length = mean(len(example.input_ids) for example in examples)
        yield lambda job: _run_command(folder, precision, job, max(1, round(job.batch * length / ROW_LENGTH)))
    else:
        from resonance.bench.peers.transformers import load_trainer

        trainer = load_trainer(folder, precision, examples, threads)
        yield lambda job: {"tokens_per_s": list(trainer.steps(job.repeats + 1, job.batch))[1:]}


def _run_command(folder: Path, precision: "Precision", job: Job, rows: int) -> dict[str, object]:
    # Tokens a second of every step but the first, padding not counted; memory with that of saving the run.
    with tempfile.TemporaryDirectory() as runs:
        overrides = {
            "checkpoints_dir": runs,
            "run": "bench",
            "model.weights": folder,
            "model.dropout": 0.0,
            "template": Checkpoint.open(folder).template().name,
            "data": "json",
            "data.path": _examples_file(folder),
            "data.train": 1.0,
            "data.test": 0.0,
            "data.validation": 0.0,
            "batch.size": rows,
            "batch.row_length": ROW_LENGTH,
            "trainer.max_steps": job.repeats + 1,
            "trainer.log_every_n_steps": 1,
            "trainer.precision": "32-true" if precision == "fp32" else "bf16-mixed",
            "callbacks.progress": "false",
            "callbacks.samples.every_n_steps": 0,
            "logger": "none",
        }
        command = ["-m", "resonance.cli", "train", *(f"{key}={value}" for key, value in overrides.items())]
        done = subprocess.run(
            [sys.executable, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"`resonance train` ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
        with (Path(runs) / "bench" / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rates = [float(row["tokens_per_s"]) for row in csv.DictReader(file)]
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"tokens_per_s": rates[1:], "peak_rss_mb": round(kilobytes / 1024)}


def _examples(folder: Path) -> list[Rendered]:
    # The examples in the checkpoint's template, tokenised, with their loss masks.
    template = Checkpoint.open(folder).template()
    lines = _examples_file(folder).read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, str]] = [json.loads(line) for line in lines]
    return [template.render([Message("user", r["instruction"]), Message("assistant", r["output"])]) for r in rows]


def _examples_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-examples.jsonl")
