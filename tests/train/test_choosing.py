"""Early stopping by any score, and the weights with the best scores of a run."""

import json
from pathlib import Path

import pytest

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from tests.train.test_monitor import CALLBACK, TINY, rows
from train.run import main

SOURCE = ["+callbacks.mine._target_=their_scores.Mine", "+callbacks.mine.every=2"]
QUICK = ["callbacks.utilization=false", "callbacks.report=false"]
VALUES = "values = {2: 0.25, 4: 0.75, 6: 0.5, 8: 0.75, 10: 0.9, 12: 0.1}"


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback with scores that rise, fall and rise, found by import."""
    (tmp_path / "modules").mkdir()
    text = CALLBACK.replace("values = {2: 0.25, 4: 0.75, 6: 0.5}", VALUES)
    assert VALUES in text
    (tmp_path / "modules" / "their_scores.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "modules")


def train(root: Path, *overrides: str) -> Path:
    main([f"checkpoints_dir={root / 'runs'}", "run=run", *TINY, *QUICK, "trainer.max_steps=12", *overrides])
    return root / "runs" / "run"


def kept(folder: Path) -> list[tuple[int, float]]:
    """What is listed, after a check that the folders are those of the list."""
    listed = json.loads((folder / "kept" / "scores.json").read_text())
    assert sorted(row["folder"] for row in listed) == sorted(path.name for path in (folder / "kept").glob("*/"))
    for row in listed:
        metadata = Checkpoint.open(folder / "kept" / row["folder"]).metadata
        assert metadata.monitor is not None and metadata.weights == "kept"
        assert (metadata.steps, metadata.monitor.value) == (row["step"], row["value"])
    return [(row["step"], row["value"]) for row in listed]


def test_a_run_stops_when_a_callback_s_score_no_longer_rises_and_keeps_the_best_weights_over_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_score = ["save.monitor=eval/mine.score", "save.mode=max", "save.keep_best=2"]
    folder = train(tmp_path, *SOURCE, *by_score, "callbacks.early_stopping.patience=2", "trainer.max_steps=6")
    assert kept(folder) == [(4, 0.75), (6, 0.5)]
    (folder / "kept" / "step-99").mkdir()  # as a kill before the list was written leaves it

    resume = [f"checkpoints_dir={folder.parent}", "resume=run"]
    main([*resume, "trainer.max_steps=12"])  # the second measurement without a better one is that of step 8
    assert [row["step"] for row in rows(folder) if row["val/loss"]] == ["3", "6", "8"]
    assert kept(folder) == [(4, 0.75), (8, 0.75)]  # of two equal ones the earlier is the better
    stopped = "stopped early at step 8: eval/mine.score has not improved on 0.7500 in 2 measurements"
    assert stopped in capsys.readouterr().out
    main(resume)
    assert "run stopped early at step 8 of 12, so there is nothing to do" in capsys.readouterr().out

    main([*resume, "callbacks.early_stopping.patience=3"])
    assert rows(folder)[-1]["step"] == "12"  # the score of step 10 was a better one in time
    assert kept(folder) == [(10, 0.9), (4, 0.75)]
    assert "kept/ holds the 2 best: step 10 (0.9000), step 4 (0.7500)" in capsys.readouterr().out
    found = Checkpoint.find("run/kept/step-10", folder.parent)
    assert found.name == "run/kept/step-10" and "from_checkpoint=run`" in (found.folder / "README.md").read_text()
    served, same = (Checkpoint.open(path).metadata.fingerprint for path in (folder, found.folder))
    assert served is not None and same is not None and served.crc32 == same.crc32

    by_loss = ["save.monitor=val/loss", "save.mode=min", "callbacks.early_stopping.patience=null"]
    main([*resume, "trainer.max_steps=14", *by_loss, "callbacks.mine=false"])
    assert [step for step, _ in kept(folder)] == [14]  # chosen anew by another score


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["callbacks.early_stopping.monitor=val/los"], "callbacks.early_stopping.monitor is 'val/los', which nothing"),
        (["callbacks.early_stopping.monitor=eval/instruct.f1"], "callbacks=evaluate measures scores of tasks"),
        ([*SOURCE, "callbacks.early_stopping.monitor=eval/mine.scores"], "did you mean 'eval/mine.score'"),
        (
            [*SOURCE, "callbacks.early_stopping.monitor=eval/mine.score", "callbacks.early_stopping.mode=min"],
            "eval/mine.score is better when it is higher; set callbacks.early_stopping.mode=max, not min",
        ),
        (["callbacks.early_stopping.mode=up"], "callbacks.early_stopping.mode must be min, max or null, not 'up'"),
        (["callbacks.early_stopping.monitor=mine/step"], "mine/step does not say whether more is better"),
        (["save.keep_best=-1"], "save.keep_best must be 0 or more, not -1"),
        (["save.keep_best=2.5"], "save.keep_best must be a whole number, not '2.5'"),
    ],
)
def test_what_cannot_choose_is_refused_before_anything_is_written(
    tmp_path: Path, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(ResonanceError) as refused:
        train(tmp_path, "callbacks.early_stopping.patience=2", *overrides)
    assert sentence in str(refused.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("choice", ["callbacks.early_stopping.patience=2", "save.keep_best=2"])
def test_a_choice_by_validation_needs_validation_rows(tmp_path: Path, choice: str) -> None:
    with pytest.raises(ResonanceError, match=r"needs val/loss, but the data has no validation rows") as refused:
        train(tmp_path, choice, "data.validation_size=0")
    assert choice.removesuffix(".patience=2").removesuffix("=2") in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_a_run_without_validation_rows_says_before_its_first_step_which_weights_it_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, "data.validation_size=0", "trainer.max_steps=1")
    assert "no validation rows: val/loss is not measured, and the newest weights are served" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["batch.row_length", "batch.max_length"])
def test_a_length_above_the_context_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ResonanceError) as refused:
        train(tmp_path, f"{key}=65")
    assert f"{key} is 65, but the model's context holds 64 tokens; set {key} to at most 64, or to null" in str(
        refused.value
    )
    assert not (tmp_path / "runs").exists()


def test_a_score_that_lightning_logs_stops_a_run_and_one_that_nothing_logs_is_refused(tmp_path: Path) -> None:
    logs = ["+callbacks.mine._target_=their_scores.Logs", "callbacks.early_stopping.patience=1"]
    mode = "callbacks.early_stopping.mode=min"
    folder = train(tmp_path, *logs, "callbacks.early_stopping.monitor=mine/step", mode)
    assert rows(folder)[-1]["step"] == "6"
    with pytest.raises(ResonanceError, match=r"early_stopping.monitor is 'mine/stop', which was not .*'mine/step'"):
        train(tmp_path, *logs, "callbacks.early_stopping.monitor=mine/stop", mode, "overwrite=true")


def test_a_run_begins_with_the_weights_of_another_one_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    main([f"checkpoints_dir={tmp_path / 'runs'}", "run=first", *TINY, *QUICK, "save.keep_best=1"])
    begun = Checkpoint.open(train(tmp_path, "model.weights=first/kept/step-6", "trainer.max_steps=1")).metadata
    assert (begun.base, begun.steps) == (str(folder / "kept" / "step-6"), 1)
    with pytest.raises(ResonanceError, match=r"There is no checkpoint 'frist'; there are: .*first"):
        train(tmp_path, "run=other", "model.weights=frist")
