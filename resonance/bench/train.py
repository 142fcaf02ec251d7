"""`what=train`: fine-tuning on instructions, tokens a second and memory, as `resonance train` does it from end to end.

The library knows nothing of the training room, so it is started as a person would start it, and tells its speed in
its `metrics.csv`. A batch is as many examples a step as make about as many tokens in packed rows. Nothing is dropped
out, and every program trains in fp32 or with bf16 where autocast puts it.
"""

import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Protocol

from resonance.bench import peers
from resonance.bench.words import words
from resonance.chat_template import Message, Rendered
from resonance.checkpoint import Checkpoint

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

EXAMPLES = 512
INSTRUCTION, OUTPUT = (8, 64), (16, 128)  # words, from and to
ROW = 256  # tokens; longer than any example


class Trainer(Protocol):
    """A peer that trains in this process."""

    def steps(self, count: int, batch: int) -> Iterator[float]:
        """Train on so many batches of examples; for each, its tokens a second, padding not counted."""
        ...


class Own:
    """`resonance train`, a run for each measurement."""

    def __init__(self, folder: Path, precision: "Precision") -> None:
        self._folder, self._precision = folder, precision
        self._mean = mean(len(example.input_ids) for example in examples(folder))

    def measure(self, job: Mapping[str, int]) -> dict[str, object]:
        """Tokens a second of every step but the first, padding not counted; memory with that of saving the run."""
        with tempfile.TemporaryDirectory() as runs:
            overrides = {
                "checkpoints_dir": runs,
                "run": "bench",
                "model.weights": self._folder,
                "model.dropout": 0.0,
                "template": Checkpoint.open(self._folder).template().name,
                "data": "json",
                "data.path": _file(self._folder),
                "data.train": 1.0,
                "data.test": 0.0,
                "data.validation": 0.0,
                "batch.size": max(1, round(job["batch"] * self._mean / ROW)),
                "batch.row_length": ROW,
                "trainer.max_steps": job["repeats"] + 1,
                "trainer.log_every_n_steps": 1,
                "trainer.precision": "32-true" if self._precision == "fp32" else "bf16-mixed",
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

    def close(self) -> None:
        """Nothing: a run has ended when its measurement has."""


class Peer:
    """A peer's training loop, here."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def measure(self, job: Mapping[str, int]) -> dict[str, object]:
        """Tokens a second of every step but the first, padding not counted."""
        return {"tokens_per_s": list(self._trainer.steps(job["repeats"] + 1, job["batch"]))[1:]}

    def close(self) -> None:
        """Nothing: it ends with the process."""


def prepare(who: str, folder: Path, precision: "Precision") -> None:
    """Write the examples beside the checkpoint, the same for all."""
    peers.prepare(who, folder, precision)
    if _file(folder).exists():
        return
    chance, known = random.Random(0), list(words())

    def text(between: tuple[int, int]) -> str:
        return "".join(chance.choices(known, k=chance.randint(*between))).strip()

    rows = ({"instruction": text(INSTRUCTION), "output": text(OUTPUT)} for _ in range(EXAMPLES))
    _file(folder).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def load(who: str, folder: Path, precision: "Precision", batch: int, threads: int) -> Own | Peer:
    """See peers.load."""
    if who == "resonance":
        return Own(folder, precision)
    from resonance.bench.peers import transformers_training

    return Peer(transformers_training.load(folder, precision, examples(folder), threads))


def examples(folder: Path) -> list[Rendered]:
    """The examples as tokens in the checkpoint's template, with what is learned of each."""
    template = Checkpoint.open(folder).template()
    lines = _file(folder).read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, str]] = [json.loads(line) for line in lines]
    return [template.render([Message("user", r["instruction"]), Message("assistant", r["output"])]) for r in rows]


def _file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-examples.jsonl")
