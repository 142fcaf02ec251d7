"""Every objective and option trains in two processes what it trains in one, and goes on with the other number."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data import DataError
from resonance.checkpoint import Checkpoint
from tests.train.test_preferences import pairs  # noqa: F401  # pyright: ignore[reportUnusedImport]  # a fixture
from train.run import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # starts two processes

TINY = [
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.context_length=64",
    "model.dropout=0.0",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.max_steps=4",
    "trainer.log_every_n_steps=1",
    "trainer.val_every_n_steps=2",
    "trainer.gradient_clip_val=0.2",
    "optimizer.lr=1e-2",
    "scheduler=constant",
    "scheduler.warmup_steps=0",
    "callbacks.samples=false",
    "callbacks.progress=false",
    "callbacks.report=false",
    "callbacks.utilization=false",
    "logger=none",
]
DATA = ["data.train_size=60", "data.validation_size=8", "data.test_size=8"]
SAMPLED = [*DATA, "objective.weight=turn", "objective.ema_decay=0.9", "loss.sampled_tokens=64"]
SMOOTHED = [*DATA, "objective.label_smoothing=0.1", "objective.weight=example", "trainer.accumulate_grad_batches=2"]
NOISE = [*DATA, "objective.neftune_alpha=5", "model.dropout=0.1"]
ONE, TWO = ["batch.size=4", "trainer.devices=1"], ["batch.size=2", "trainer.devices=2", "trainer.strategy=ddp"]
FURTHER = ["trainer.max_steps=8"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same(folder: Path, other: Path) -> None:
    """The two runs have the same steps, losses, gradient norms before clipping, and validations."""
    ours, theirs = rows(folder), rows(other)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    names = [name for name in ours[0] if name.startswith(("train/", "val/")) or name == "grad_norm"]
    for name in (*names, "tokens_seen", "epoch"):
        ours_of, theirs_of = ([float(row[name]) for row in table if row[name]] for table in (ours, theirs))
        assert ours_of == pytest.approx(theirs_of, rel=2e-4, abs=1e-6), name
    assert max(float(row["grad_norm"]) for row in ours) > 0.2  # some steps are clipped


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> Path:  # noqa: F811
    """Runs by one process, and by two."""
    root = tmp_path_factory.mktemp("runs")
    preferences = ["data=json", f"data.path={pairs}", "data.train=0.75", "data.validation=0.25", "data.test=0"]

    def line(run: str, *overrides: str) -> list[str]:
        return [f"checkpoints_dir={root}", f"run={run}", *TINY, *overrides]

    def resume(run: str, *overrides: str) -> list[str]:
        return [f"checkpoints_dir={root}", f"resume={run}", *overrides]

    main(line("sampled", *SAMPLED, *ONE, *FURTHER))
    main(line("sampled-one-then-two", *SAMPLED, *ONE))
    main(line("smoothed", *SMOOTHED, *ONE, *FURTHER))
    for objective in ("dpo", "kto"):
        main(line(f"{objective}-one", *preferences, f"objective={objective}", "optimizer.lr=1e-2", *ONE))
    runs = [
        line("smoothed-two", *SMOOTHED, *TWO),
        *(
            line(f"{objective}-two", *preferences, f"objective={objective}", "optimizer.lr=1e-2", *TWO)
            for objective in ("dpo", "kto")
        ),
        line("noise", *NOISE, *TWO),
        line("noise-in-halves", *NOISE, *TWO, "trainer.max_steps=2"),
        resume("noise-in-halves", "trainer.max_steps=4"),
        resume("sampled-one-then-two", *FURTHER, "trainer.devices=2", "trainer.strategy=ddp"),
    ]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.train.distributed_runs", json.dumps(runs)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for name in ("kto", "smoothed"):
        shutil.copytree(root / f"{name}-two", root / f"{name}-two-then-one")
        main(resume(f"{name}-two-then-one", *FURTHER, "trainer.devices=1"))
    main(resume("kto-one", *FURTHER))
    return root


def test_pairs_train_the_same_in_two_processes(root: Path) -> None:
    assert_same(root / "dpo-two", root / "dpo-one")


def test_averages_and_a_sampled_softmax_are_the_same_when_two_processes_go_on(root: Path) -> None:
    runs = ("sampled-one-then-two", "sampled")
    assert_same(root / runs[0], root / runs[1])
    served, expected = (Checkpoint.open(root / run / "last").load_model().state_dict() for run in runs)
    for key, value in expected.items():
        assert (served[key] - value).abs().max() < 2e-4, key  # averages of the weights


def test_smoothed_labels_and_weighted_examples_are_the_same_in_two_processes_and_when_one_goes_on(root: Path) -> None:
    assert_same(root / "smoothed-two-then-one", root / "smoothed")


def test_votes_train_the_same_in_two_processes_and_when_one_goes_on(root: Path) -> None:
    assert_same(root / "kto-two-then-one", root / "kto-one")


def test_each_process_draws_noise_of_its_own_and_the_same_after_a_resume(root: Path) -> None:
    whole, halves = (rows(root / run) for run in ("noise", "noise-in-halves"))
    same = ("step", "train/loss", "val/loss", "grad_norm")
    assert [[row[name] for name in same] for row in halves] == [[row[name] for name in same] for row in whole]


def test_processes_that_cannot_share_the_rows_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.module.SFTDataModule._process", lambda self: (0, 3))
    with pytest.raises(DataError, match=r"trains on 4 rows at once, which 3 processes cannot .* go on with 1, 2 or 4"):
        main([f"checkpoints_dir={root}", "resume=smoothed-two", *FURTHER, "trainer.devices=1"])
