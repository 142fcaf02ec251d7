"""Training in two processes equals training in one; only rank 0 prints."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resonance.checkpoint import Checkpoint

pytestmark = pytest.mark.slow  # each run starts two processes

SMALL = [
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.context_length=64",
    "model.dropout=0.0",
    "data.train_size=60",
    "data.validation_size=8",
    "data.test_size=8",
    "trainer.max_steps=8",
    "trainer.log_every_n_steps=1",
    "trainer.val_every_n_steps=4",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "callbacks.samples.every_n_steps=4",
    "callbacks.samples.max_new_tokens=4",
    "optimizer.lr=1e-2",
]
TWO = ["batch.size=2", "trainer.devices=2", "trainer.strategy=ddp"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | {
    "OMP_NUM_THREADS": "1"
}


def train(root: Path, launcher: list[str], *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "resonance.cli", "train", f"checkpoints_dir={root}", *SMALL, *overrides]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=200)


def rows(root: Path, run: str) -> list[dict[str, str]]:
    with (root / run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, subprocess.CompletedProcess[str]]]:
    """One run by one process and the same by two, tracked; by their names."""
    root = tmp_path_factory.mktemp("checkpoints")
    done = {
        "one": train(root, [], "run=one", "batch.size=4", "trainer.devices=1", "logger=none"),
        "two": train(root, [], "run=two", *TWO),
    }
    for run in done.values():
        assert run.returncode == 0, run.stderr
    return root, done


def assert_same_run(root: Path, run: str, output: str) -> None:
    """What two processes did is what one did, and was said once."""
    one, two = rows(root, "one"), rows(root, run)
    assert [row["step"] for row in two] == [str(step) for step in range(1, 9)]
    for column in ("train/loss", "val/loss", "grad_norm"):
        values = ([float(row[column]) for row in rows if row[column]] for rows in (two, one))
        assert next(values) == pytest.approx(next(values), rel=1e-4)
    assert [row["tokens_seen"] for row in two] == [row["tokens_seen"] for row in one]
    tokens = [Checkpoint.find(name, root).metadata.tokens_seen for name in (run, "one")]
    assert tokens[0] == tokens[1]
    lines = output.splitlines()
    for beginning in (f"{run}  ", "basics: train", "step 4/8", "step 8  val/loss", str(root / run)):
        assert len([line for line in lines if line.startswith(beginning)]) == 1, (beginning, output)


def test_two_processes_train_what_one_trains_and_one_speaks(runs) -> None:
    root, done = runs
    assert_same_run(root, "two", done["two"].stdout)


def test_the_report_counts_the_batches_of_all_processes(runs) -> None:
    _, done = runs
    (one,), (two,) = ([line for line in run.stdout.splitlines() if " batches of " in line] for run in done.values())
    batches = int(one.split(" batches of ")[0].split()[-1])
    assert f"an epoch has 2 x {batches} batches of " in two
    assert "in 2 processes" in done["two"].stdout


def test_only_one_process_is_tracked_and_with_the_config(runs) -> None:
    root, _ = runs
    (tracked,) = (root / "two" / "wandb").glob("offline-run-*")
    assert b'"n_embd":16' in next(tracked.glob("*.wandb")).read_bytes()


def test_under_torchrun_two_processes_do_the_same(runs) -> None:
    root, _ = runs
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run = train(root, torchrun, "run=launched", *TWO)
    assert run.returncode == 0, run.stderr
    assert_same_run(root, "launched", run.stdout)


def test_one_process_evaluates_while_the_other_waits_and_both_keep_the_same_best(runs) -> None:
    root, _ = runs
    settings = [
        "callbacks=evaluate",
        "callbacks.evaluate.every_n_steps=4",
        "callbacks.evaluate.limit=4",
        "callbacks.evaluate.tasks.instruct.max_new_tokens=4",
        "save.monitor=eval/perplexity.perplexity",
        "logger=none",
    ]
    run = train(root, [], "run=evaluated", *settings, *TWO)
    assert run.returncode == 0, run.stderr
    scores = {row["step"]: row["eval/perplexity.perplexity"] for row in rows(root, "evaluated")}
    assert [step for step, value in scores.items() if value] == ["4", "8"]
    assert len([line for line in run.stdout.splitlines() if "eval/instruct.exact_match" in line]) == 2
    assert_same_run(root, "evaluated", run.stdout)
    monitor = Checkpoint.find("evaluated", root).metadata.monitor
    assert monitor is not None and repr(monitor.value) == min(filter(None, scores.values()), key=float)
