"""The best weights of a run: chosen by any score that a callback measures or logs."""

import csv
import shutil
from pathlib import Path

import pytest

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from tests.train.tiny_runs import TINY_RUN
from train.run import main

TINY = [
    *TINY_RUN,
    "trainer.max_steps=6",
    "trainer.val_every_n_steps=3",
    "trainer.log_every_n_steps=4",
    "save.every_n_steps=2",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]
SOURCE = ["+callbacks.mine._target_=my_scores.Mine", "+callbacks.mine.every=2"]
BY_LOSS = ["save.monitor=val/loss", "save.mode=min"]
CALLBACK = """
from lightning.pytorch.callbacks import Callback

class Mine(Callback):
    score_modes = {"eval/mine.score": "max", "eval/mine.cost": "min"}
    values = {2: 0.25, 4: 0.75, 6: 0.5}

    def __init__(self, every):
        self.every, self.score_step, self.scores = every, 0, {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step % self.every == 0 and self.every < 10:
            self.score_step = trainer.global_step
            self.scores = dict.fromkeys(self.score_modes, self.values[trainer.global_step])

class Logs(Callback):
    def on_validation_epoch_end(self, trainer, module):
        module.log("mine/step", float(trainer.global_step))
"""


@pytest.fixture(autouse=True)
def callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two callbacks of one's own, found by import."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "my_scores.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(tmp_path / "modules")


def train(root: Path, *overrides: str) -> Path:
    main([f"checkpoints_dir={root / 'runs'}", "run=run", *TINY, *overrides])
    return root / "runs" / "run"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "mode", "best", "value"), [("eval/mine.score", "max", 4, 0.75), ("eval/mine.cost", "min", 2, 0.25)]
)
def test_the_weights_served_are_those_with_the_best_monitored_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, mode: str, best: int, value: float
) -> None:
    folder = train(tmp_path, *SOURCE, f"save.monitor={name}", f"save.mode={mode}")
    served, last = Checkpoint.open(folder).metadata, Checkpoint.open(folder / "last").metadata
    assert served.monitor is not None and served.last is not None and last.monitor is not None
    assert (served.steps, served.weights) == (best, "best")
    assert (served.monitor.name, served.monitor.value, served.monitor.mode) == (name, value, mode)
    assert (served.last.steps, served.last.value, last.monitor.value) == (6, 0.5, 0.5)
    assert f"step {best} ({name} {value:.4f}), the best" in capsys.readouterr().out


def test_scores_stand_in_metrics_csv_at_their_steps(tmp_path: Path) -> None:
    found = rows(train(tmp_path, *SOURCE))
    assert [(row["step"], row["eval/mine.score"]) for row in found] == [
        ("2", "0.25"),
        ("3", ""),
        ("4", "0.75"),
        ("6", "0.5"),
    ]
    assert [row["step"] for row in found if row["val/loss"]] == ["3", "6"]


def test_a_resumed_run_keeps_the_best_and_the_columns(tmp_path: Path) -> None:
    chosen = [*SOURCE, "save.monitor=eval/mine.score", "save.mode=max"]
    whole = train(tmp_path / "whole", *chosen)
    part = train(tmp_path / "part", *chosen, "trainer.max_steps=4")
    main([f"checkpoints_dir={part.parent}", "resume=run", "trainer.max_steps=6"])
    same = ("step", "train/loss", "eval/mine.score", "val/loss")
    halves = [row for row in rows(part) if row["step"] != "4" or row["eval/mine.score"]]
    assert [[row[name] for name in same if name != "val/loss"] for row in halves] == [
        [row[name] for name in same if name != "val/loss"] for row in rows(whole)
    ]
    assert Checkpoint.open(part).metadata.steps == 4
    main(
        [
            f"checkpoints_dir={part.parent}",
            "resume=run",
            "trainer.max_steps=7",
            "callbacks=default",
            "callbacks.samples=false",
            *BY_LOSS,
        ]
    )
    assert list(rows(part)[0]) == list(rows(whole)[0])  # an earlier column stays


def test_another_monitor_in_a_resumed_run_selects_anew(tmp_path: Path) -> None:
    folder = train(tmp_path, *SOURCE, "save.monitor=eval/mine.score", "save.mode=max", "trainer.max_steps=4")
    main(
        [
            f"checkpoints_dir={folder.parent}",
            "resume=run",
            "trainer.max_steps=6",
            "save.monitor=eval/mine.cost",
            "save.mode=min",
        ]
    )
    served = Checkpoint.open(folder).metadata
    assert served.monitor is not None
    assert (served.steps, served.monitor.value, served.monitor.mode) == (6, 0.5, "min")


def test_a_score_that_lightning_logs_can_be_monitored_too(tmp_path: Path) -> None:
    logs = "+callbacks.mine._target_=my_scores.Logs"
    folder = train(tmp_path, logs, "save.monitor=mine/step", "save.mode=min")
    assert Checkpoint.open(folder).metadata.steps == 3
    shutil.rmtree(folder)
    with pytest.raises(ResonanceError, match=r"save.monitor is 'mine/stop', which was not logged .*'mine/step'"):
        train(tmp_path, logs, "save.monitor=mine/stop")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["save.monitor=val/los"],
            "save.monitor is 'val/los', which nothing in this run measures; did you mean 'val/loss'",
        ),
        (["save.monitor=eval/instruct.exact_match"], "callbacks=evaluate measures scores of tasks"),
        ([*SOURCE, "save.monitor=eval/mine.scores"], "did you mean 'eval/mine.score'"),
        ([*SOURCE, "save.monitor=eval/x"], "there are eval/mine.cost, eval/mine.score, val/loss"),
        (["save.mode=max"], "val/loss is better when it is lower; set save.mode=min, not max"),
        (["save.mode=maximum"], "save.mode must be min or max, not 'maximum'"),
    ],
)
def test_a_score_that_nothing_measures_is_refused_before_anything_is_written(
    tmp_path: Path, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(ResonanceError) as refused:
        train(tmp_path, *overrides)
    assert sentence in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_a_declared_score_that_is_never_measured_is_told_and_the_newest_weights_are_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never = ["+callbacks.mine._target_=my_scores.Mine", "+callbacks.mine.every=99"]
    folder = train(tmp_path, *never, "save.monitor=eval/mine.score", "save.mode=max")
    assert "eval/mine.score was never measured, so these are the newest" in capsys.readouterr().out
    assert Checkpoint.open(folder).metadata.steps == 6
