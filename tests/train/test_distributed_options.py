"""Every objective and option trains in two processes what it trains in one, and goes on with the other number."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data import DataError
from resonance.checkpoint import Checkpoint
from resonance.hydra_config import ConfigError
from resonance.model import GPT2
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
    "callbacks.samples.every_n_steps=0",
    "callbacks.progress=false",
    "callbacks.report=false",
    "callbacks.utilization=false",
    "logger=none",
]
DATA = ["data.train_size=60", "data.validation_size=8", "data.test_size=8"]
SAMPLED = [*DATA, "objective.weight=turn", "objective.ema_decay=0.9", "loss.sampled_tokens=64"]
SMOOTHED = [
    *DATA,
    "objective.label_smoothing=0.1",
    "objective.weight=example",
    "trainer.accumulate_grad_batches=2",
    "optimizer.weight_decay=2",
    "optimizer.layer_decay=0.8",
]
NOISE = [*DATA, "objective.neftune_alpha=5", "model.dropout=0.1"]
ONE, TWO = ["batch.size=4", "trainer.devices=1"], ["batch.size=2", "trainer.devices=2", "trainer.strategy=ddp"]
SHARDED = ["batch.size=2", "trainer.devices=2", "trainer.strategy=fsdp2"]
FURTHER = ["trainer.max_steps=8"]
WRITTEN = [  # what rank 0 makes of whole weights
    "callbacks.samples.every_n_steps=4",
    "callbacks.samples.count=1",
    "callbacks.samples.max_new_tokens=2",
    "save.keep_best=1",
    "activation_checkpointing=true",
]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same(folder: Path, other: Path) -> None:
    """The two runs have the same steps, losses, gradient norms before clipping, validations and newest weights."""
    ours, theirs = rows(folder), rows(other)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    names = [name for name in ours[0] if name.startswith(("train/", "val/")) or name == "grad_norm"]
    for name in (*names, "tokens_seen", "epoch"):
        ours_of, theirs_of = ([float(row[name]) for row in table if row[name]] for table in (ours, theirs))
        assert ours_of == pytest.approx(theirs_of, rel=2e-4, abs=1e-6), name
    assert max(float(row["grad_norm"]) for row in ours) > 0.2  # some steps are clipped
    weights, expected = (Checkpoint.open(run / "last").load_model().state_dict() for run in (folder, other))
    for key, value in expected.items():
        assert (weights[key] - value).abs().max() < 2e-4, key


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> Path:  # noqa: F811
    """Runs by one process, and by two."""
    root = tmp_path_factory.mktemp("runs")
    preferences = {  # with one pair for validation, of which one of two processes has none
        "dpo": ["data=json", f"data.path={pairs}", "data.train=0.977", "data.validation=0.023", "data.test=0"],
        "kto": ["data=json", f"data.path={pairs}", "data.train=0.75", "data.validation=0.25", "data.test=0"],
    }

    def line(run: str, *overrides: str) -> list[str]:
        return [f"checkpoints_dir={root}", f"run={run}", *TINY, *overrides]

    def resume(run: str, *overrides: str) -> list[str]:
        return [f"checkpoints_dir={root}", f"resume={run}", *overrides]

    main(line("sampled", *SAMPLED, *ONE, *FURTHER))
    main(line("sampled-one-then-two", *SAMPLED, *ONE))
    main(line("smoothed", *SMOOTHED, *ONE, *FURTHER))
    main(line("smoothed-one-then-sharded", *SMOOTHED, *ONE))
    for objective in ("dpo", "kto"):
        main(line(f"{objective}-one", *preferences[objective], f"objective={objective}", "optimizer.lr=1e-2", *ONE))
    shutil.copytree(root / "kto-one", root / "kto-four")
    runs = [
        line("smoothed-two", *SMOOTHED, *TWO),
        line("smoothed-sharded", *SMOOTHED, *SHARDED, *WRITTEN),
        *(
            line(
                f"{objective}-{name}",
                *preferences[objective],
                f"objective={objective}",
                "optimizer.lr=1e-2",
                *processes,
            )
            for objective in ("dpo", "kto")
            for name, processes in (("two", TWO), ("sharded", SHARDED))
        ),
        resume("smoothed-one-then-sharded", *FURTHER, "trainer.devices=2", "trainer.strategy=fsdp2"),
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
    for name in ("kto-two", "smoothed-two", "smoothed-sharded"):
        shutil.copytree(root / name, root / f"{name}-then-one")
        main(resume(f"{name}-then-one", *FURTHER, "trainer.devices=1", "trainer.strategy=auto"))
    main(resume("kto-one", *FURTHER))
    return root


def test_pairs_train_the_same_in_two_processes(root: Path) -> None:
    assert_same(root / "dpo-two", root / "dpo-one")


def test_averages_and_a_sampled_softmax_are_the_same_when_two_processes_go_on(root: Path) -> None:
    runs = ("sampled-one-then-two", "sampled")
    assert_same(root / runs[0], root / runs[1])


def test_smoothed_labels_and_weighted_examples_are_the_same_in_two_processes_and_when_one_goes_on(root: Path) -> None:
    assert_same(root / "smoothed-two-then-one", root / "smoothed")


def test_votes_train_the_same_in_two_processes_and_when_one_goes_on(root: Path) -> None:
    assert_same(root / "kto-two-then-one", root / "kto-one")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("dpo-sharded", "dpo-one"),
        ("kto-sharded", "kto-four"),
        ("smoothed-sharded-then-one", "smoothed"),
        ("smoothed-one-then-sharded", "smoothed"),
    ],
)
def test_sharded_weights_train_the_same_and_their_states_are_whole(root: Path, run: str, expected: str) -> None:
    assert_same(root / run, root / expected)


def test_rank_0_of_sharded_weights_writes_what_one_process_would(root: Path) -> None:
    run = root / "smoothed-sharded"
    assert json.loads((run / "samples.jsonl").read_text())["step"] == 4
    (kept,) = (run / "kept").glob("step-*")
    assert GPT2.from_pretrained(kept).num_parameters() == GPT2.from_pretrained(run).num_parameters()
    states = [torch.load(root / name / "last.ckpt", weights_only=True) for name in ("smoothed-sharded", "smoothed-two")]
    groups, others = (state["optimizer_states"][0]["param_groups"] for state in states)
    assert groups == others
    moments, others = (state["optimizer_states"][0]["state"] for state in states)
    for number, of_parameter in others.items():
        for name, value in of_parameter.items():
            torch.testing.assert_close(moments[number][name], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["adapter=lora"], "cannot be kept with adapter: an adapter's gradients and moments are small already"),
        (["optimizer=muon"], "cannot be kept with optimizer=muon: it orthogonalises whole matrices"),
        (["optimizer=adamw_8bit"], "cannot be kept with optimizer=adamw_8bit: its moments are quantised in blocks"),
        (["optimizer.cpu_offload=true"], "cannot be kept with optimizer.cpu_offload=true: it moves whole moments"),
        (["objective.ema_decay=0.9"], "cannot be kept with objective.ema_decay: it averages whole weights"),
        (["trainer.precision=16-mixed"], "cannot be kept with trainer.precision=16-mixed: each process would scale"),
        (["compile=true"], "cannot be kept with compile=true: the compiled parts of a block"),
    ],
)
def test_what_cannot_be_sharded_is_refused_by_name(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        main([f"checkpoints_dir={tmp_path}", "run=run", *SHARDED, *overrides])
    assert not (tmp_path / "run").exists()


def test_each_process_draws_noise_of_its_own_and_the_same_after_a_resume(root: Path) -> None:
    whole, halves = (rows(root / run) for run in ("noise", "noise-in-halves"))
    same = ("step", "train/loss", "val/loss", "grad_norm")
    assert [[row[name] for name in same] for row in halves] == [[row[name] for name in same] for row in whole]


def test_processes_that_cannot_share_the_rows_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.module.SFTDataModule._process", lambda self: (0, 3))
    with pytest.raises(DataError, match=r"trains on 4 rows at once, which 3 processes cannot .* go on with 1, 2 or 4"):
        main([f"checkpoints_dir={root}", "resume=smoothed-two", *FURTHER, "trainer.devices=1"])
