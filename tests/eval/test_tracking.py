"""Scores in the W&B run that a checkpoint was trained in; always offline here."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from eval import EvalError
from eval.run import main
from resonance.checkpoint import Checkpoint

Runs = dict[str, Checkpoint]
LOGGER = {"wandb": {"_target_": "train.tracking.wandb_logger", "project": "colours", "entity": None, "tags": []}}


@pytest.fixture
def untracked(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run that was trained without W&B."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))


@pytest.fixture
def tracked(untracked: Path) -> Path:
    """The same, trained with W&B."""
    config = yaml.safe_load((untracked / "train.yaml").read_text())
    (untracked / "train.yaml").write_text(yaml.safe_dump(config | {"run": "learned", "logger": LOGGER}))
    (untracked / "wandb" / "offline-run-20260101_000000-learned").mkdir(parents=True)
    return untracked


def evaluate(folder: Path, *overrides: str) -> None:
    main([f"checkpoint={folder}", "tasks=[instruct]", "task.instruct.max_new_tokens=8", *overrides])


def sent(folder: Path) -> list[Path]:
    """The files that W&B wrote."""
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def test_the_scores_go_to_the_run_of_training(tracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(tracked, "wandb=true")
    [file] = sent(tracked)
    assert file.name == "run-learned.wandb"  # the id of training's run
    end = time.monotonic() + 30
    while len(content := file.read_bytes()) < 100 and time.monotonic() < end:  # another process of W&B's writes it
        time.sleep(0.1)
    for name in ("test/instruct.exact_match", "test/instruct.exact_match.low"):
        assert name.encode() in content
    assert b"colours" in content
    assert f"W&B: {tracked / 'wandb'} has the scores; wandb sync" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tracked / "eval.json").read_text())["tasks"]["instruct"]["exact_match"]["value"] == 1.0


@pytest.mark.parametrize(("environment", "files"), [({}, 0), ({"WANDB_MODE": "offline"}, 1)])
def test_without_a_key_or_a_mode_nothing_is_sent_unasked(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], files: int
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    evaluate(tracked)
    assert len(sent(tracked)) == files


def test_a_server_that_cannot_be_reached_leaves_the_scores_offline(
    tracked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    evaluate(tracked)
    out = " ".join(capsys.readouterr().out.split())
    assert "W&B cannot be used online (http://127.0.0.1:9" in out
    assert len(sent(tracked)) == 1


def test_an_untracked_run_is_evaluated_without_w_and_b(untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    evaluate(untracked)
    assert not (untracked / "wandb").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("true", "wandb=true needs a run that was trained with logger=wandb, and learned was not; leave it out."),
        ("yes", "wandb must be auto, true or false, not 'yes'."),
        ("1", "wandb must be auto, true or false, not 1."),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused_before_the_evaluation(
    untracked: Path, setting: str, sentence: str
) -> None:
    with pytest.raises(EvalError, match=re.escape(sentence)):
        evaluate(untracked, f"wandb={setting}")
    assert not (untracked / "eval.json").exists()
