"""Evaluation during training: `callbacks=evaluate`."""

import csv
from pathlib import Path

import pytest
import torch
import wandb

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from tests.train.tiny_runs import TINY_RUN
from train.run import main

TINY = [
    *TINY_RUN,
    "model.dropout=0.2",
    "data.validation_size=8",
    "trainer.max_steps=6",
    "trainer.val_every_n_steps=4",
    "save.every_n_steps=2",
    "callbacks.samples=false",
]
EVALUATE = [
    "callbacks=evaluate",
    "callbacks.evaluate.every_n_steps=2",
    "callbacks.evaluate.limit=4",
    "callbacks.evaluate.tasks.instruct.max_new_tokens=4",
]
BEST = ["save.monitor=eval/perplexity.perplexity", "save.mode=min"]
SCORES = {
    "eval/instruct.exact_match",
    "eval/instruct.token_f1",
    "eval/instruct.rouge_l",
    "eval/instruct.chrf",
    "eval/perplexity.perplexity",
    "eval/perplexity.bits_per_byte",
}
BROKEN = """
import random
import numpy as np
import torch
from eval.tasks.base import MetricSpec

class Broken:
    needs_examples = False
    metrics = {"score": MetricSpec("mean")}

    def items(self, examples):
        random.random(), np.random.rand(), torch.rand(1)
        raise RuntimeError("the disk of the judge is on fire")
"""

DRAWS = """
import json, random
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

class Draws(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(1)), module.model.training]
        with open(f"{trainer.default_root_dir}/draws.jsonl", "a") as file:
            print(json.dumps(drawn), file=file)
"""


def train(root: Path, *overrides: str) -> Path:
    """A run; W&B's files are written only where a test asks for the logger."""
    logger = [] if any(override.startswith("logger") for override in overrides) else ["logger=none"]
    main([f"checkpoints_dir={root}", "run=run", *overrides[:1], *TINY, *overrides[1:], *logger])
    return root / "run"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curve(folder: Path) -> list[list[str]]:
    return [[row[name] for name in ("step", "train/loss", "val/loss", "lr", "grad_norm")] for row in rows(folder)]


def evaluated(folder: Path) -> dict[str, dict[str, str]]:
    """The scores by step."""
    return {
        row["step"]: {name: value for name, value in row.items() if name.startswith("eval/")}
        for row in rows(folder)
        if any(value for name, value in row.items() if name.startswith("eval/"))
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing evaluates."""
    return train(tmp_path_factory.mktemp("plain"), "callbacks=default")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, evaluated every other step."""
    return train(tmp_path_factory.mktemp("evaluated"), *EVALUATE, *BEST)


def test_a_run_computes_the_same_losses_and_weights_with_evaluations_as_without(plain: Path, run: Path) -> None:
    assert curve(run) == curve(plain)
    ours, theirs = (Checkpoint.open(folder / "last").load_model().state_dict() for folder in (run, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_scores_stand_in_metrics_csv_every_n_steps(run: Path) -> None:
    found = evaluated(run)
    assert list(found) == ["2", "4", "6"]
    assert all(set(scores) == SCORES and all(scores.values()) for scores in found.values())
    assert len({scores["eval/perplexity.perplexity"] for scores in found.values()}) == 3


def test_the_best_weights_are_those_with_the_best_score(run: Path) -> None:
    values = {step: float(scores["eval/perplexity.perplexity"]) for step, scores in evaluated(run).items()}
    served = Checkpoint.open(run).metadata
    assert served.monitor is not None and served.weights == "best"
    assert (served.monitor.name, served.monitor.value) == ("eval/perplexity.perplexity", min(values.values()))
    assert values[str(served.steps)] == min(values.values())


def test_a_resumed_run_goes_on_as_if_it_had_not_been_interrupted(run: Path, tmp_path: Path) -> None:
    part = train(tmp_path, *EVALUATE, *BEST, "trainer.max_steps=4", "scheduler=constant")
    whole = train(tmp_path / "whole", *EVALUATE, *BEST, "scheduler=constant")
    main([f"checkpoints_dir={tmp_path}", "resume=run", "trainer.max_steps=6"])
    assert [row[:2] for row in curve(part)] == [row[:2] for row in curve(whole)]
    assert evaluated(part) == evaluated(whole)
    assert Checkpoint.open(part).metadata.steps == Checkpoint.open(whole).metadata.steps


def test_a_failing_task_is_told_and_costs_neither_the_run_nor_its_losses(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "broken_task.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = train(tmp_path / "runs", *EVALUATE, "+callbacks.evaluate.tasks.broken._target_=broken_task.Broken")
    assert "step 2  evaluation failed: the disk of the judge is on fire" in capsys.readouterr().out
    assert curve(folder) == curve(plain)
    assert evaluated(folder) == {}


def test_whatever_a_task_draws_the_run_draws_the_same_random_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "broken_task.py").write_text(BROKEN)
    (tmp_path / "modules" / "draws.py").write_text(DRAWS)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    draws = ["+callbacks.draws._target_=draws.Draws", "trainer.max_steps=3"]
    broken = "+callbacks.evaluate.tasks.broken._target_=broken_task.Broken"
    evaluated, plain = (
        (train(tmp_path / name, *overrides, *draws) / "draws.jsonl").read_text()
        for name, overrides in (("evaluated", [*EVALUATE, broken]), ("plain", ["callbacks=default"]))
    )
    assert evaluated == plain
    assert plain.count("true") == 3


def test_a_task_that_cannot_run_leaves_the_others_their_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_two = ["+task@callbacks.evaluate.tasks.turns=turns", "callbacks.evaluate.limit=1"]
    folder = train(tmp_path, *EVALUATE, *needs_two)
    assert "step 2  turns did not run:" in capsys.readouterr().out
    assert set(evaluated(folder)["2"]) >= SCORES
    assert not evaluated(folder)["2"]["eval/turns.after_0"]


def test_the_loggers_get_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = train(tmp_path, *EVALUATE, "logger=wandb")
    wandb.finish()
    [tracked] = (folder / "wandb").glob("offline-run-*")
    assert b"eval/instruct.exact_match" in next(tracked.glob("*.wandb")).read_bytes()


def test_an_adapter_is_evaluated_merged(tmp_path: Path) -> None:
    folder = train(tmp_path, *EVALUATE, "adapter=lora", "adapter.rank=2", "trainer.max_steps=2")
    assert list(evaluated(folder)) == ["2"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["save.monitor=eval/instruct.exact_match"], "is better when it is higher; set save.mode=max, not min"),
        (["save.monitor=eval/instruct.exact_mach"], "did you mean 'eval/instruct.exact_match'"),
        (["callbacks.evaluate.every_n_steps=0"], "callbacks.evaluate.every_n_steps must be at least 1, not 0"),
        (["callbacks.evaluate.limit=0"], "callbacks.evaluate.limit must be at least 1, not 0"),
        (
            ["callbacks.evaluate.tasks.instruct=null", "callbacks.evaluate.tasks.perplexity=null"],
            "callbacks.evaluate.tasks has no task",
        ),
    ],
)
def test_a_mistake_is_refused_before_anything_is_written(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ResonanceError) as refused:
        train(tmp_path / "runs", "callbacks=evaluate", *overrides)
    assert sentence in str(refused.value)
    assert not (tmp_path / "runs").exists()
