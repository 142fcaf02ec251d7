"""A run from the command line: its files, and resuming after a kill."""

import csv
import json
import os
import shutil
import signal
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from resonance.checkpoint import Checkpoint
from tests.processes import Running, resonance
from tests.train.tiny_runs import ON_CPU, SIZES, WIDER

SMALL = [
    *SIZES,
    *WIDER,
    *ON_CPU,
    "model.dropout=0.1",
    "data.train_size=60",
    "data.validation_size=8",
    "data.test_size=8",
    "trainer.max_steps=24",
    "trainer.val_every_n_steps=6",
    "save.every_n_steps=4",
    "callbacks.samples.every_n_steps=12",
    "callbacks.samples.max_new_tokens=4",
    "optimizer.lr=1e-2",
    "logger=none",
]


def command(root: Path, *overrides: str) -> list[str]:
    return ["train", f"checkpoints_dir={root}", *overrides]


def train(root: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return resonance(*command(root, *overrides))


def curve(root: Path, run: str) -> list[tuple[str, ...]]:
    """What must not depend on how often a run was interrupted."""
    with (root / run / "metrics.csv").open() as file:
        return [
            tuple(row[name] for name in ("step", "epoch", "train/loss", "val/loss", "lr", "grad_norm", "tokens_seen"))
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints folder with one run that nothing disturbed.

    Once in CI, and never in 50,000 steps made to find it, the processor's bf16 products came out a last bit
    different for one step of this run. All that is compared with it would fail: two of three runs decide.
    """
    root = tmp_path_factory.mktemp("checkpoints")

    def undisturbed(name: str) -> list[tuple[str, ...]]:
        run = train(root, f"run={name}", *SMALL)
        assert run.returncode == 0, run.stderr
        return curve(root, name)

    if undisturbed("whole") != undisturbed("again"):
        warnings.warn("two undisturbed runs have different curves on this machine", stacklevel=1)
        if undisturbed("third") != curve(root, "whole"):
            assert curve(root, "third") == curve(root, "again"), "three undisturbed runs have three different curves"
            shutil.rmtree(root / "whole")
            shutil.copytree(root / "again", root / "whole")
    return root


def test_a_run_leaves_the_folder_of_the_design(whole: Path) -> None:
    folder = whole / "whole"
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "model.safetensors",
        "config.json",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "resonance.json",
        "train.yaml",
        "README.md",
        "last.ckpt",
        "metrics.csv",
        "samples.jsonl",
    }
    assert not [name for name in names if name.endswith(".tmp")]
    known = json.loads((folder / "resonance.json").read_text())
    assert known["template"] == "chatml"
    assert known["data"] == "basics"
    assert known["seed"] == 1337
    assert known["tokens_seen"] > 0
    assert 20 < known["trained_length"] <= 64
    assert len(known["config_sha256"]) == len(known["data_fingerprint"]) == 64
    assert yaml.safe_load((folder / "train.yaml").read_text())["trainer"]["max_steps"] == 24


def test_metrics_have_a_row_a_step_in_full_precision(whole: Path) -> None:
    rows = curve(whole, "whole")
    assert [row[0] for row in rows] == [str(step) for step in range(1, 25)]
    losses = [row[2] for row in rows]
    assert all(loss == repr(float(loss)) for loss in losses)
    assert float(losses[-1]) < float(losses[0])
    assert [row[0] for row in rows if row[3]] == ["6", "12", "18", "24"]


def test_the_weights_on_disk_are_those_with_the_best_validation_loss(whole: Path) -> None:
    monitor = Checkpoint.find("whole", whole).metadata.monitor
    assert monitor is not None
    assert repr(monitor.value) == min((row[3] for row in curve(whole, "whole") if row[3]), key=float)


@pytest.mark.parametrize(
    "killed_at", [pytest.param(5, marks=pytest.mark.slow), 12, 13, pytest.param(17, marks=pytest.mark.slow)]
)
def test_a_killed_run_resumes_on_the_same_loss_curve(whole: Path, killed_at: int) -> None:
    name = f"killed-{killed_at}"
    process = Running(command(whole, f"run={name}", *SMALL))
    process.wait_for_lines(whole / name / "metrics.csv", killed_at)
    process.kill()
    run = train(whole, f"resume={name}")
    assert run.returncode == 0, run.stderr
    assert curve(whole, name) == curve(whole, "whole")
    ours, theirs = (Checkpoint.find(run, whole).load_model().state_dict() for run in (name, "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_ctrl_c_saves_and_exits_with_130_and_resume_goes_on(whole: Path) -> None:
    process = Running(command(whole, "run=interrupted", *SMALL))
    process.wait_for_lines(whole / "interrupted" / "metrics.csv", 6)
    process.send_signal(signal.SIGINT)
    ended = process.finish()
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "resume=interrupted goes on" in ended.stdout
    assert (whole / "interrupted" / "last.ckpt").is_file()
    last = Checkpoint.find("interrupted/last", whole)
    assert f"last/ holds those of step {last.metadata.steps}" in ended.stdout
    assert last.metadata.training["ended"] == "interrupted"
    assert Checkpoint.find("interrupted", whole).metadata.last is not None
    assert train(whole, "resume=interrupted").returncode == 0
    assert curve(whole, "interrupted") == curve(whole, "whole")


def test_a_finished_run_can_be_extended_as_if_it_had_been_longer(whole: Path) -> None:
    level = [*SMALL, "scheduler=constant", "trainer.val_every_n_steps=3"]
    for run, steps in (("long", 9), ("extended", 6)):
        made = train(whole, f"run={run}", *level, f"trainer.max_steps={steps}")
        assert made.returncode == 0, made.stderr
    assert train(whole, "resume=extended", "trainer.max_steps=9").returncode == 0
    assert curve(whole, "extended") == curve(whole, "long")


def test_resume_refuses_what_would_be_another_run(whole: Path) -> None:
    for override, sentence in (("model=gpt2", "only single keys can change"), ("seed=4", "seed was 1337 and is 4")):
        run = train(whole, "resume=whole", override)
        assert run.returncode == 2, run.stderr
        assert sentence in run.stderr


def test_a_taken_name_is_refused(whole: Path) -> None:
    run = train(whole, "run=whole", *SMALL)
    assert run.returncode == 2
    assert "There is a run 'whole' already" in run.stderr


def test_wandb_works_without_a_key_or_a_network(whole: Path) -> None:
    settings = [value for value in SMALL if value != "logger=none"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    run = resonance(*command(whole, "run=tracked", *settings, "trainer.max_steps=4"), environment=environment)
    assert run.returncode == 0, run.stderr
    assert list((whole / "tracked" / "wandb").glob("offline-run-*"))


def test_data_without_anything_to_learn_is_an_error_and_not_a_loss_of_zero(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "empty.json"
    file.write_text(json.dumps([{"instruction": f"Say nothing {i}.", "output": ""} for i in range(20)]))
    run = train(whole, *[value for value in SMALL if not value.startswith("data.")], "data=json", f"data.path={file}")
    assert run.returncode == 2
    assert "empty answer" in run.stderr


def test_fine_tuning_starts_from_a_folder_of_weights(whole: Path, tmp_path: Path) -> None:
    run = train(whole, "run=tuned", *SMALL, f"model.weights={whole / 'whole'}", "trainer.max_steps=6")
    assert run.returncode == 0, run.stderr
    first, last = curve(whole, "tuned")[0], curve(whole, "whole")[-1]
    assert float(first[2]) < float(curve(whole, "whole")[3][2])
    known = Checkpoint.find("tuned", whole).metadata
    assert known.base == str(whole / "whole")
    assert known.base_sha256 is not None and last


@pytest.mark.slow
def test_the_losses_do_not_depend_on_where_tokenised_data_is_kept(whole: Path, tmp_path: Path) -> None:
    for run, cache in (("kept", tmp_path / "cache"), ("mapped", tmp_path / "cache"), ("held", "false")):
        done = train(whole, f"run={run}", *SMALL, "trainer.max_steps=6", f"data_cache={cache}")
        assert done.returncode == 0, done.stderr
    assert curve(whole, "kept") == curve(whole, "mapped") == curve(whole, "held")
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.max_steps=-5", "trainer.max_steps must be at least 1, not -5."),
        ("optimizer.lr=-1", "optimizer.lr must be more than 0, not -1."),
        ("trainer.precision=fp8", "Lightning cannot do what trainer.* asks for: Precision 'fp8' is invalid."),
        ("data_cache=3", "data_cache must be auto, false or a folder, not 3."),
        ("run=a/b", "run must be the name of a folder, without slashes, not 'a/b'."),
    ],
)
def test_a_value_that_cannot_be_leaves_nothing_behind(tmp_path: Path, override: str, sentence: str) -> None:
    run = train(tmp_path, *SMALL, override)
    assert run.returncode == 2
    assert sentence in run.stderr
    assert not list(tmp_path.iterdir())
