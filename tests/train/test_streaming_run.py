"""Runs on streamed data: their length, their files, and resuming them after a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from tests.train.tiny_runs import ON_CPU, SIZES
from train.run import main
from train.sft_module import Batch

SMALL = [
    *SIZES,
    *ON_CPU,
    "data=json",
    "data.streaming=true",
    "data.stream.buffer=12",
    "data.stream.validation_size=4",
    "data.train=0.7",
    "data.validation=0.2",
    "model.dropout=0.1",
    "trainer.max_steps=12",
    "trainer.val_every_n_steps=6",
    "save.every_n_steps=4",
    "optimizer.lr=1e-2",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]
CURVE = ("step", "epoch", "train/loss", "val/loss", "lr", "grad_norm", "tokens_seen")


class WriteQuestions(Callback):
    """Writes the texts of each trained batch as a line, one file a process."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        tokenizer = ChatTemplate.named("chatml").tokenizer
        texts = [tokenizer.decode([i for i in row.tolist() if i >= 0]) for row in batch["input_ids"]]
        with (self._folder / f"{trainer.global_rank}.txt").open("a") as file:
            file.write(json.dumps(texts) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = ({"instruction": f"What is {i} and one?", "output": f"It is {i + 1}. " * (i % 5 + 1)} for i in range(36))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.path={path}"


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints folder with one run that nothing disturbed."""
    root = tmp_path_factory.mktemp("checkpoints")
    main([f"checkpoints_dir={root}", "run=whole", data, *SMALL])
    return root


def curve(root: Path, run: str) -> list[tuple[str, ...]]:
    with (root / run / "metrics.csv").open() as file:
        return [tuple(row[name] for name in CURVE) for row in csv.DictReader(file)]


def assert_same_weights(root: Path, run: str) -> None:
    ours, theirs = (Checkpoint.find(name, root).load_model().state_dict() for name in (run, "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_streamed_run_counts_the_epochs_that_it_reads(whole: Path) -> None:
    rows = curve(whole, "whole")
    assert [row[0] for row in rows] == [str(step) for step in range(1, 13)]
    epochs = [int(row[1]) for row in rows]
    assert epochs == sorted(epochs) and epochs[0] == 0 < epochs[-1] < 4
    assert [row[0] for row in rows if row[3]] == ["6", "12"]
    assert float(rows[-1][2]) < float(rows[0][2])


def test_an_unknown_length_is_shown_nowhere(whole: Path) -> None:
    files = [path for path in (whole / "whole").rglob("*") if path.suffix in (".html", ".md", ".json", ".csv", ".yaml")]
    assert {"train.html", "README.md"} <= {path.name for path in files}
    for path in files:
        text = path.read_text()
        assert str(sys.maxsize) not in text.replace(",", ""), path
        assert str(float(sys.maxsize)) not in text, path
    assert "12 of 12" in (whole / "whole" / "train.html").read_text()


def test_a_stopped_streamed_run_resumes_bit_for_bit(whole: Path, data: str) -> None:
    main([f"checkpoints_dir={whole}", "run=stopped", data, *SMALL, "trainer.max_steps=7", "scheduler=constant"])
    main([f"checkpoints_dir={whole}", "resume=stopped", "trainer.max_steps=12"])
    main([f"checkpoints_dir={whole}", "run=level", data, *SMALL, "scheduler=constant"])
    columns = slice(0, 3)  # validations differ: the shorter run validates at its own end
    assert [row[columns] for row in curve(whole, "stopped")] == [row[columns] for row in curve(whole, "level")]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.max_epochs=2", "trainer.max_epochs cannot be held with data.streaming=true"),
        ("trainer.max_steps=null", "set trainer.max_steps, the run's length"),
        ("trainer.val_every_n_steps=null", "set trainer.val_every_n_steps"),
        ("loss.sampled_tokens=10", "loss.sampled_tokens cannot be held with data.streaming=true"),
        ("data_cache=elsewhere", "keeps no tokenised data"),
        ("objective=dpo", "objective=dpo holds its pairs in memory"),
    ],
)
def test_what_needs_the_whole_data_is_refused_by_name(tmp_path: Path, data: str, override: str, sentence: str) -> None:
    with pytest.raises(ResonanceError, match=sentence):
        main([f"checkpoints_dir={tmp_path}", "run=no", data, *SMALL, override])
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [5, 9])
def test_a_killed_streamed_run_resumes_on_the_same_loss_curve(whole: Path, data: str, killed_at: int) -> None:
    name = f"killed-{killed_at}"
    command = [sys.executable, "-m", "resonance.cli", "train", f"checkpoints_dir={whole}", f"run={name}", data, *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = whole / name / "metrics.csv"
    deadline = time.monotonic() + 300
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > killed_at):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    main([f"checkpoints_dir={whole}", f"resume={name}"])
    assert curve(whole, name) == curve(whole, "whole")
    assert_same_weights(whole, name)


@pytest.mark.slow
def test_two_processes_train_on_disjoint_rows_what_one_trains(tmp_path: Path, data: str) -> None:
    texts: dict[str, list[list[list[str]]]] = {}  # of each run, process and batch
    exact = ["trainer.precision=32-true", "model.dropout=0.0"]
    for name, changes in (("one", ["batch.size=4"]), ("two", ["trainer.devices=2", "trainer.strategy=ddp"])):
        seen = tmp_path / f"seen-{name}"
        seen.mkdir()
        own = [
            "+callbacks.seen._target_=tests.train.test_streaming_run.WriteQuestions",
            f"+callbacks.seen.folder={seen}",
        ]
        command = [f"checkpoints_dir={tmp_path}", f"run={name}", data, *SMALL, *exact, *changes, *own]
        done = subprocess.run(
            [sys.executable, "-m", "resonance.cli", "train", *command],
            capture_output=True,
            text=True,
            timeout=500,
            # A port below those that the system hands out: Lightning's own may be taken before it listens.
            env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": str(20_000 + os.getpid() % 10_000)},
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr
        texts[name] = [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(seen.iterdir())]
    (one,), (first, second) = texts["one"], texts["two"]
    for a, b, whole in zip(first, second, one, strict=True):
        assert not set(a) & set(b) and {*a, *b} == set(whole)
    for a, b in zip(curve(tmp_path, "two"), curve(tmp_path, "one"), strict=True):
        assert float(a[2]) == pytest.approx(float(b[2]), rel=1e-4)
