"""Preference training from the command line: what it learns, logs, saves and refuses."""

import csv
import json
import random
from pathlib import Path

import pytest
import torch

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from tests.train.tiny_runs import CONSTANT_RATE, ON_CPU, SIZES, WIDER
from train.preference_module import PreferenceModule
from train.run import main

TINY = [
    *SIZES,
    *WIDER,
    *ON_CPU,
    *CONSTANT_RATE,
    "data=json",
    "data.validation=0.25",
    "data.train=0.75",
    "data.test=0",
    "batch.size=4",
    "optimizer.lr=3e-3",
    "trainer.precision=32-true",
    "trainer.max_steps=8",
    "trainer.val_every_n_steps=4",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]
SAME = ("step", "train/loss", "val/loss", "grad_norm", "train/reward_margin", "val/reward_margin", "tokens_seen")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions on a word each; the better answer is polite."""
    rng = random.Random(0)
    words = ["apple", "river", "stone", "cloud", "horse", "lemon", "table", "winter", "garden", "silver", "orange"]
    rows = [
        {
            "prompt": f"What is {' '.join(rng.sample(words, 2))}?",
            "chosen": [{"role": "assistant", "content": f"Please, it is {word}."}],
            "rejected": [{"role": "assistant", "content": f"No idea, {word}."}],
        }
        for word in words * 4
    ]
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(root: Path, run: str, *overrides: str) -> list[dict[str, str]]:
    main([f"checkpoints_dir={root}", f"run={run}", *TINY, *overrides])
    return rows(root / run)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curve(folder: Path) -> list[list[str]]:
    return [[row[name] for name in SAME] for row in rows(folder)]


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_the_held_out_preference_rises(
    tmp_path: Path, pairs: Path, objective: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = train(
        tmp_path, "run", f"objective={objective}", f"data.path={pairs}", "trainer.max_steps=40", "model.dropout=0.0"
    )
    start = {"dpo": 0.6931, "kto": 0.5}[objective]
    assert float(table[0]["train/loss"]) == pytest.approx(start, abs=1e-3)
    measured = [row for row in table if row["val/reward_accuracy"]]
    margins = [float(row["val/reward_margin"]) for row in measured]
    assert margins[-1] > margins[0] > 0 and margins[-1] > 0.5
    assert float(measured[-1]["val/reward_accuracy"]) > 0.8
    assert float(measured[-1]["val/loss"]) < float(measured[0]["val/loss"]) < start
    assert float(table[-1]["train/reward_accuracy"]) > 0.8
    training = Checkpoint.find("run", tmp_path).metadata.training
    assert str(training["objective"]) == f"{objective}, beta 0.1"
    assert f"| Objective | {objective}, beta 0.1 |" in (tmp_path / "run" / "README.md").read_text()
    assert "computed the reference's log-probabilities of" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ("objective=dpo", "adapter=lora"),
        pytest.param(("objective=dpo",), marks=pytest.mark.slow),
        pytest.param(("objective=kto",), marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_has_the_same_references_and_the_same_curve(
    tmp_path: Path, pairs: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*options, f"data.path={pairs}", "objective.ema_decay=0.9", "model.dropout=0.1", "adapter.rank=2"]
    more = more if "adapter=lora" in options else more[:-1]
    train(tmp_path, "whole", *more, "trainer.accumulate_grad_batches=2")
    train(tmp_path, "parts", *more, "trainer.accumulate_grad_batches=2", "trainer.max_steps=4")
    monkeypatch.setattr(PreferenceModule, "_reference_log_probs", None)  # it must not be computed again
    main([f"checkpoints_dir={tmp_path}", "resume=parts", "trainer.max_steps=8"])
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    states = [torch.load(tmp_path / run / "last.ckpt", weights_only=True) for run in ("whole", "parts")]
    assert torch.equal(*(state["reference_log_probs"] for state in states))
    for name, value in states[0]["ema"]["averages"].items():
        assert torch.equal(value, states[1]["ema"]["averages"][name])


def test_the_reference_is_the_base_beneath_an_adapter(tmp_path: Path, pairs: Path) -> None:
    """At the first step policy and reference are the same, so that the loss is that of a margin of 0."""
    options = ["objective=dpo", f"data.path={pairs}", "adapter=lora", "adapter.rank=2", "adapter.dropout=0"]
    table = train(tmp_path, "run", *options, "model.dropout=0.0", "trainer.max_steps=2")
    assert float(table[0]["train/reward_margin"]) == pytest.approx(0, abs=1e-5)
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert all("lora" in name for name in state["state_dict"])
    assert len(state["reference_log_probs"]) > 60


def test_votes_are_read_by_their_label_and_their_balance_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = [{"prompt": f"What is {i}?", "completion": f"Answer {i}.", "label": i % 4 != 0, "id": i} for i in range(40)]
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    table = train(tmp_path, "run", "objective=kto", f"data.path={path}", "trainer.max_steps=2")
    assert table[-1]["val/reward_margin"]
    assert "objective.undesirable_weight=" in capsys.readouterr().out


def test_the_best_weights_can_be_those_of_the_highest_accuracy(tmp_path: Path, pairs: Path) -> None:
    options = ["objective=dpo", f"data.path={pairs}", "save.monitor=val/reward_accuracy"]
    with pytest.raises(ResonanceError, match=r"val/reward_accuracy is better when it is higher; set save.mode=max"):
        train(tmp_path, "run", *options)
    train(tmp_path, "run", *options, "save.mode=max")
    monitor = Checkpoint.find("run", tmp_path).metadata.monitor
    assert monitor is not None and monitor.name == "val/reward_accuracy"


def test_a_loss_of_each_source_is_neither_a_column_nor_a_monitor(tmp_path: Path, pairs: Path) -> None:
    other = [
        "objective=dpo",
        f"data.sources.instructions.path={pairs}",
        "data.sources.basics=null",
        "~data.weights.basics",
    ]
    tiny = [key for key in TINY if not key.startswith("data")]
    line = [f"checkpoints_dir={tmp_path}", "run=run", *tiny, "data=mixture", *other, "trainer.max_steps=1"]
    with pytest.raises(ResonanceError, match="which nothing in this run measures"):
        main([*line, "save.monitor=val/loss/instructions"])
    main(line)
    assert "val/loss/instructions" not in rows(tmp_path / "run")[0]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["objective=dpo", "batch.packing=true"], "objective=dpo has one answer in each row; leave out batch.packing"),
        (["objective=dpo", "data_cache=kept"], "objective=dpo keeps its data in memory; leave out data_cache=kept"),
        (["objective=kto", "loss.sampled_tokens=10"], "objective=kto compares exact log-probabilities; leave out loss"),
        (["objective=dpo", "objective.beta=0"], "objective.beta must be more than 0, not 0"),
        (["objective=dpo", "objective.label_smoothing=0.5"], "must be 0 or more and less than 0.5, not 0.5"),
        (["objective=kto", "objective.undesirable_weight=-1"], "objective.undesirable_weight must be more than 0"),
        (["objective.loss_on=questions"], "objective.loss_on must be one of answers, all, not 'questions'"),
        (["objective.loss_on=all", "objective.weight=turn"], "choose weight=example or weight=token"),
        (["objective.label_smoothing=0.1", "loss.sampled_tokens=10"], "or loss.sampled_tokens=null"),
        (["objective.ema_decay=1"], "objective.ema_decay must be more than 0 and less than 1, not 1"),
        (["objective=dpo", "+objective.gamma=1"], "gamma"),
    ],
)
def test_what_cannot_be_combined_is_refused_by_name(
    tmp_path: Path, pairs: Path, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(ResonanceError) as refused:
        train(tmp_path, "run", f"data.path={pairs}", *overrides)
    assert sentence in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_data_without_pairs_or_votes_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{i}?", "completion": "Yes."}) + "\n" for i in range(9)))
    for objective, sentence in (("dpo", "a chosen and a rejected answer"), ("kto", r"a label \(true or false\)")):
        with pytest.raises(ResonanceError, match=f"9 skipped: no .*objective={objective} needs rows with .*{sentence}"):
            train(tmp_path, "run", f"objective={objective}", f"data.path={path}", "data.train=1", "data.validation=0")


def test_another_beta_is_refused_on_resume(tmp_path: Path, pairs: Path) -> None:
    train(tmp_path, "run", "objective=dpo", f"data.path={pairs}", "trainer.max_steps=1")
    with pytest.raises(ResonanceError, match=r"objective.beta was 0.1 and is 0.5, which a resumed run cannot change"):
        main([f"checkpoints_dir={tmp_path}", "resume=run", "objective.beta=0.5", "trainer.max_steps=4"])
