"""Steps, validations and saved weights: no step is short, and the last one is validated and saved."""

import csv
import math
from pathlib import Path

import pytest
import torch

from resonance.checkpoint import Checkpoint, run_folders
from tests.train.tiny_runs import TINY_RUN
from train.run import main

TINY = [
    *TINY_RUN,
    "data.train_size=24",  # 13 rows of 64 tokens: 7 micro-batches
    "trainer.precision=32-true",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]
EPOCH = 7


def train(root: Path, run: str, *overrides: str) -> list[dict[str, str]]:
    main([f"checkpoints_dir={root}", f"run={run}", *TINY, *overrides])
    return rows(root / run)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def validated(table: list[dict[str, str]]) -> list[int]:
    return [int(row["step"]) for row in table if row["val/loss"]]


def test_validations_fall_on_steps_under_accumulation_and_an_epoch_s_rest_joins_the_next(tmp_path: Path) -> None:
    table = train(
        tmp_path, "run", "trainer.max_steps=12", "trainer.accumulate_grad_batches=3", "trainer.val_every_n_steps=5"
    )
    assert [int(row["step"]) for row in table] == list(range(1, 13))  # one row a step
    assert validated(table) == [5, 10, 12]
    assert [int(row["epoch"]) for row in table] == [(3 * step - 1) // EPOCH for step in range(1, 13)]
    tokens = [int(row["tokens_seen"]) for row in table]
    assert tokens[6] == 3 * tokens[6] // 3 and len({*tokens}) == 12
    steps = [later - before for before, later in zip([0, *tokens], tokens, strict=False)]
    assert min(steps) > 0.6 * max(steps)  # an epoch's last micro-batch alone would be a third


def test_epochs_end_with_a_validated_step_and_count_whole_steps(tmp_path: Path) -> None:
    table = train(tmp_path, "run", "trainer.max_epochs=2", "trainer.accumulate_grad_batches=3")
    assert len(table) == math.ceil(2 * EPOCH / 3)
    assert validated(table) == [3, 5]  # the steps that see batch 7 and batch 14
    assert all(row[name] == repr(float(row[name])) for row in table for name in ("train/loss", "lr", "tokens_per_s"))


def test_a_logged_row_in_ten_still_has_every_validation_in_whole_rows(tmp_path: Path) -> None:
    table = train(tmp_path, "run", "trainer.max_steps=11", "trainer.val_every_n_steps=4", "trainer.log_every_n_steps=5")
    assert [int(row["step"]) for row in table] == [4, 5, 8, 10, 11]
    assert validated(table) == [4, 8, 11]
    assert all(row["train/loss"] and row["lr"] for row in table)


@pytest.mark.parametrize(("lr", "best"), [("3e-3", "true"), ("5.0", "true"), ("3e-3", "false")])
def test_the_last_step_is_validated_and_its_weights_are_kept_beside_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lr: str, best: str
) -> None:
    table = train(
        tmp_path, "run", "trainer.max_steps=9", "trainer.val_every_n_steps=2", f"optimizer.lr={lr}", f"save.best={best}"
    )
    losses = {int(row["step"]): float(row["val/loss"]) for row in table if row["val/loss"]}
    assert 9 in losses
    served, last = Checkpoint.find("run", tmp_path), Checkpoint.find("run/last", tmp_path)
    expected = min(losses, key=lambda step: losses[step]) if best == "true" else 9
    assert served.metadata.steps == expected
    assert served.metadata.weights == ("best" if best == "true" else "last")
    assert served.metadata.monitor is not None and served.metadata.monitor.value == losses[expected]
    assert served.metadata.last is not None
    assert (served.metadata.last.steps, served.metadata.last.value) == (9, losses[9])
    assert (last.name, last.metadata.steps, last.metadata.weights) == ("run/last", 9, "last")
    assert last.template().name == "chatml" and last.train_yaml() == served.train_yaml()
    trained = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(
        last.load_model().state_dict()["token_embedding.weight"], trained["model.token_embedding.weight"]
    )
    output = capsys.readouterr().out
    assert "9 steps, " in output and "; train.html is its report" in output
    assert f"served are the weights of step {expected} (val/loss {losses[expected]:.4f})" in output
    assert f"last/ holds those of step 9 (val/loss {losses[9]:.4f})" in output
    assert [folder.name for folder in run_folders(tmp_path)] == ["run"]
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_run_that_stops_early_is_validated_at_its_last_step(tmp_path: Path) -> None:
    table = train(
        tmp_path,
        "run",
        "trainer.max_steps=40",
        "trainer.val_every_n_steps=2",
        "optimizer.lr=5.0",
        "callbacks.early_stopping.patience=2",
    )
    assert int(table[-1]["step"]) < 40
    assert validated(table)[-1] == int(table[-1]["step"])
    assert Checkpoint.find("run/last", tmp_path).metadata.steps == int(table[-1]["step"])
