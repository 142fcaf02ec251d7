"""Resuming a run: what it applies, what it refuses, and its record."""

import csv
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from tests.train.tiny_runs import CONSTANT_RATE, TINY_RUN
from train.folder_lock import locked_folder
from train.run import main
from train.run_config import resolve_run

TINY = [
    *TINY_RUN,
    *CONSTANT_RATE,
    "trainer.max_steps=4",
    "trainer.val_every_n_steps=2",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps."""
    root = tmp_path_factory.mktemp("made")
    main([f"checkpoints_dir={root}", "run=run", *TINY])
    return root / "run"


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A folder of checkpoints with a copy of that run."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path


def resume(root: Path, *overrides: str) -> None:
    main([f"checkpoints_dir={root}", "resume=run", *overrides])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def known(folder: Path) -> dict[str, object]:
    return json.loads((folder / "resonance.json").read_text())


def snapshot(folder: Path) -> dict[str, str]:
    """The hash of every file, but the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_changed_rate_and_decay_are_applied_and_recorded(root: Path) -> None:
    resume(root, "trainer.max_steps=6", "optimizer.lr=2e-3", "optimizer.weight_decay=0.3", "save.every_n_steps=5")
    folder = root / "run"
    assert [row["lr"] for row in rows(folder)] == ["5e-05"] * 4 + ["0.002"] * 2
    state = torch.load(folder / "last.ckpt", weights_only=True)
    assert [group["weight_decay"] for group in state["optimizer_states"][0]["param_groups"]] == [0.3, 0.0]
    config = yaml.safe_load((folder / "train.yaml").read_text())
    assert (config["optimizer"]["lr"], config["trainer"]["max_steps"], config["run"]) == (2e-3, 6, "run")
    [entry] = known(folder)["resumes"]
    assert entry["from_step"] == 4
    assert entry["changed"] == {
        "trainer.max_steps": [4, 6],
        "optimizer.lr": [5e-5, 2e-3],
        "optimizer.weight_decay": [0.1, 0.3],
        "save.every_n_steps": [200, 5],
    }
    card = (folder / "README.md").read_text()
    assert "from step 4, with " in card and "optimizer.lr 5e-05 -> 0.002" in card


def test_the_hash_in_the_record_is_that_of_the_config_beside_it(root: Path) -> None:
    folder = root / "run"
    for overrides in ([], ["trainer.max_steps=5", "optimizer.lr=1e-9"]):  # too small a rate for better weights
        if overrides:
            resume(root, *overrides)
        for where in (folder, folder / "last"):
            digest = hashlib.sha256((where / "train.yaml").read_bytes()).hexdigest()
            assert known(where)["config_sha256"] == digest
    assert len(known(folder)["resumes"]) == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed=4", "seed was 1337 and is 4, which a resumed run cannot change"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches was 1 and is 2"),
        ("trainer.precision=64-true", "trainer.precision was auto and is 64-true"),
        ("batch.size=3", "batch.size was 2 and is 3"),
        ("model.dropout=0.5", "model.dropout was"),
        ("data.train_size=48", "data.train_size was 24 and is 48"),
        ("template.name=", "template.name was chatml and is '', which"),
        ("run=other", "resume=run goes on under its own name, not run=other"),
        ("model=gpt2", "only single keys can change"),
        ("overwrite=true", "leave out overwrite="),
        ("from_checkpoint=run", "leave out from_checkpoint="),
        ("+trainer.profilr=simple", "did you mean 'profiler'?"),
    ],
)
def test_what_a_resumed_run_cannot_change_is_refused_by_name(root: Path, override: str, sentence: str) -> None:
    before = snapshot(root / "run")
    with pytest.raises(ResonanceError) as refused:
        resume(root, "trainer.max_steps=6", override)
    assert sentence in str(refused.value)
    assert snapshot(root / "run") == before


def test_a_finished_run_says_that_there_is_nothing_to_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root / "run")
    resume(root)
    assert capsys.readouterr().out == (
        "run is finished: step 4 of 4, so there is nothing to do; trainer.max_steps=N trains on.\n"
    )
    assert snapshot(root / "run") == before


def test_callbacks_and_loggers_can_be_others_after_a_resume(root: Path) -> None:
    csv_logger = ["+logger.csv._target_=lightning.pytorch.loggers.CSVLogger", f"+logger.csv.save_dir={root / 'csv'}"]
    resume(root, "trainer.max_steps=5", "callbacks=default", "~callbacks.samples", *csv_logger)
    assert list((root / "csv").rglob("metrics.csv"))
    assert yaml.safe_load((root / "run" / "train.yaml").read_text())["callbacks"]["progress"]
    resume(root, "trainer.max_steps=6", "~logger")


def test_a_run_that_stopped_early_is_not_trained_on_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = ["callbacks.early_stopping.patience=1", "optimizer.lr=5.0", "trainer.max_steps=60"]
    main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, *stopping])
    stopped_at = int(rows(tmp_path / "run")[-1]["step"])
    assert stopped_at < 60
    capsys.readouterr()
    resume(tmp_path)
    assert f"run stopped early at step {stopped_at} of 60, so there is nothing to do" in capsys.readouterr().out
    resume(tmp_path, "callbacks.early_stopping.patience=null", f"trainer.max_steps={stopped_at + 2}")
    assert int(rows(tmp_path / "run")[-1]["step"]) == stopped_at + 2


def test_a_run_without_its_state_is_not_begun_anew_over_its_weights(root: Path) -> None:
    (root / "run" / "last.ckpt").unlink()
    before = snapshot(root / "run")
    with pytest.raises(ResonanceError, match=r"has weights but no last.ckpt to go on from.*model.weights="):
        resume(root)
    assert snapshot(root / "run") == before


def test_a_run_that_was_killed_before_its_first_save_begins_with_step_1(root: Path) -> None:
    folder = root / "run"
    curve = [row["train/loss"] for row in rows(folder)]
    shutil.rmtree(folder / "last")
    for name in ("last.ckpt", "model.safetensors", "resonance.json"):
        (folder / name).unlink()
    resume(root)
    assert [row["train/loss"] for row in rows(folder)] == curve


def test_a_cut_state_is_a_sentence_and_leaves_the_run_as_it_is(root: Path) -> None:
    state = root / "run" / "last.ckpt"
    state.write_bytes(state.read_bytes()[:1000])
    before = snapshot(root / "run")
    with pytest.raises(ResonanceError, match=r"last.ckpt is damaged and cannot be gone on from .*model.weights="):
        resume(root, "trainer.max_steps=6")
    assert snapshot(root / "run") == before


def test_what_killed_writes_left_is_removed_at_the_next_start_but_not_a_living_process_s(root: Path) -> None:
    folder = root / "run"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = [folder / f".last.ckpt.{gone.pid}-0123abcd.tmp", folder / ".model.safetensors.0123abcd.tmp"]
    living = folder / f".resonance.json.{os.getppid()}-0123abcd.tmp"
    for path in (*dead, living):
        path.write_text("half")
    (folder / "last").rename(folder / ".last.old.tmp")  # as a kill between two renames leaves it
    half = folder / f".last.{gone.pid}-0123abcd.tmp"
    half.mkdir()
    resume(root, "trainer.max_steps=5")
    assert [path.name for path in folder.glob(".*.tmp")] == [living.name]
    assert Checkpoint.find("run/last", root).metadata.steps == 5


def test_one_process_at_a_time_trains_in_a_folder(root: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()",
            root / "run" / ".lock",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdout.readline()
    try:
        with pytest.raises(ResonanceError, match="Another process is training 'run' now"):
            resume(root, "trainer.max_steps=6")
    finally:
        holder.communicate(b"\n")
    resume(root, "trainer.max_steps=5")


def test_a_full_disk_is_a_sentence_and_what_was_saved_is_kept(root: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (root / "run" / "last.ckpt").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(ResonanceError, match=r"cannot be written.*kept as of step 4.*resume=run goes on"):
            resume(root, "trainer.max_steps=8", "save.every_n_steps=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((root / "run").glob(".*.tmp"))
    resume(root, "trainer.max_steps=6")
    assert int(rows(root / "run")[-1]["step"]) == 6


@pytest.mark.parametrize("launcher", [{}, {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}])
def test_a_run_that_is_there_is_overwritten_only_if_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch, launcher: dict[str, str]
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    before = snapshot(root / "run")
    with pytest.raises(ResonanceError, match="There is a run 'run' already; choose another run=NAME"):
        main([f"checkpoints_dir={root}", "run=run", *TINY])
    assert snapshot(root / "run") == before
    (root / "run" / "samples.jsonl").write_text("of the old run\n")
    main([f"checkpoints_dir={root}", "run=run", "overwrite=true", *TINY, "trainer.max_steps=2"])
    assert len(rows(root / "run")) == 2
    assert not (root / "run" / "samples.jsonl").exists()
    assert known(root / "run")["resumes"] == []


def test_of_two_starts_with_one_name_one_goes_on(tmp_path: Path) -> None:
    line = [f"checkpoints_dir={tmp_path}", "run=run", *TINY]
    first, second = resolve_run(line), resolve_run(line)  # neither has written anything yet
    with locked_folder(first):
        with pytest.raises(ResonanceError, match="Another process is training 'run' now"), locked_folder(second):
            pass
        (tmp_path / "run" / "train.yaml").write_text("run: run\n")
    with pytest.raises(ResonanceError, match="There is a run 'run' already"), locked_folder(second):
        pass
    assert (tmp_path / "run" / "train.yaml").read_text() == "run: run\n"


@pytest.mark.slow
def test_under_torchrun_one_run_is_written_and_a_second_start_overwrites_nothing(tmp_path: Path) -> None:
    line = [f"checkpoints_dir={tmp_path}", "run=run", *TINY, "trainer.devices=2", "trainer.strategy=ddp"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, "-m", "resonance.cli", "train", *line]
    first = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert first.returncode == 0, first.stderr
    assert known(tmp_path / "run")["training"]["world_size"] == 2
    before = snapshot(tmp_path / "run")
    second = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert second.returncode != 0
    assert "There is a run 'run' already" in second.stderr
    assert snapshot(tmp_path / "run") == before


def test_a_folder_that_is_no_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ResonanceError, match="holds files that are no run of ours"):
        main([f"checkpoints_dir={tmp_path}", "run=mine", "overwrite=true", *TINY])
    (tmp_path / "file").write_text("precious")
    for place in (f"checkpoints_dir={tmp_path / 'file'}", f"checkpoints_dir={tmp_path / 'file' / 'below'}"):
        with pytest.raises(ResonanceError, match="file"):
            main([place, "run=mine", *TINY])
    with pytest.raises(ResonanceError, match="File name too long"):
        main([f"checkpoints_dir={tmp_path}", f"run={'x' * 300}", *TINY])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.parametrize(
    "launcher",
    [{"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}],
)
def test_processes_of_a_launcher_need_a_name_to_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: dict[str, str]
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ResonanceError, match="need a name that they share: run=NAME"):
        main([f"checkpoints_dir={tmp_path}", *TINY])


def test_the_record_suffices_to_make_the_run_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = known(root / "run")["training"]
    assert isinstance(training, dict)
    assert training["command"].startswith("resonance train checkpoints_dir=") and training["ended"] == "finished"
    assert training["precision"] in ("bf16-mixed", "32-true") and training["row_length"] == 64
    assert (training["world_size"], training["devices"], training["accelerator"]) == (1, 1, "cpu")
    assert training["versions"]["torch"] == torch.__version__
    assert training["hardware"]["processor"] and training["duration_s"] > 0
    card = (root / "run" / "README.md").read_text()
    for fact in (training["precision"], training["command"], f"torch {torch.__version__}", "from_checkpoint=run"):
        assert fact in card

    main([f"checkpoints_dir={root}", "from_checkpoint=run", "run=again"])
    assert "making run again" in capsys.readouterr().out
    same = ("step", "epoch", "train/loss", "val/loss", "lr", "grad_norm", "tokens_seen")
    curves = [[[row[name] for name in same] for row in rows(root / name)] for name in ("run", "again")]
    assert curves[0] == curves[1]
    configs = [yaml.safe_load((root / name / "train.yaml").read_text()) for name in ("run", "again")]
    assert configs[0] | {"run": "again", "checkpoints_dir": str(root)} == configs[1]
    assert known(root / "again")["training"]["from_checkpoint"] == "run"


def test_a_run_is_not_made_again_from_other_data(root: Path) -> None:
    folder = root / "run"
    record = known(folder) | {"data_fingerprint": "0" * 64}
    (folder / "resonance.json").write_text(json.dumps(record))
    with pytest.raises(ResonanceError, match="run cannot be made again: its data had the fingerprint 0000"):
        main([f"checkpoints_dir={root}", "from_checkpoint=run", "run=again"])
    assert not (root / "again").exists()
    main([f"checkpoints_dir={root}", "from_checkpoint=run", "run=varied", "data.train_size=30", "trainer.max_steps=1"])
    assert math.isfinite(float(rows(root / "varied")[0]["train/loss"]))


def test_a_run_from_before_a_key_existed_goes_on_without_it(root: Path) -> None:
    stored = yaml.safe_load((root / "run" / "train.yaml").read_text())
    del stored["loss"], stored["model"]["induction_heads"]
    (root / "run" / "train.yaml").write_text(yaml.safe_dump(stored, sort_keys=False))
    resume(root, "trainer.max_steps=6")
    assert [int(row["step"]) for row in rows(root / "run")] == [1, 2, 3, 4, 5, 6]
