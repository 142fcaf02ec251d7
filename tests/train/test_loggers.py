"""Loggers: what each writes, and that a resumed run goes on in the same files without repeating a step."""

import csv
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from resonance.errors import ResonanceError
from tests.train.tiny_runs import TINY_RUN
from train.run import main

TINY = [
    *TINY_RUN,
    "trainer.max_steps=6",
    "trainer.val_every_n_steps=3",
    "save.every_n_steps=4",
    "callbacks.samples.every_n_steps=2",
    "callbacks.samples.max_new_tokens=4",
    "callbacks.utilization=false",
    "callbacks.report=false",
]
KILLED = """
from lightning.pytorch.callbacks import Callback

class Killed(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 5:
            raise RuntimeError("killed")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all loggers that dies in its sixth step, goes on from its fourth, and ends with the sixth."""
    root = tmp_path_factory.mktemp("logged")
    (root / "modules").mkdir()
    (root / "modules" / "deadly.py").write_text(KILLED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "modules")
        patch.setenv("WANDB_MODE", "offline")
        line = [f"checkpoints_dir={root}", "run=run", *TINY, "logger=[wandb,csv,tensorboard]"]
        with pytest.raises(RuntimeError, match="killed"):
            main([*line, "+callbacks.killed._target_=deadly.Killed"])
        wandb = pytest.importorskip("wandb")
        wandb.finish()
        main([f"checkpoints_dir={root}", "resume=run", "~callbacks.killed", "optimizer.weight_decay=0.2"])
        wandb.finish()
    return root / "run"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_logger_has_each_step_once_with_what_metrics_csv_has_and_the_present_config(run: Path) -> None:
    ours, theirs = table(run / "metrics.csv"), table(run / "csv" / "metrics.csv")
    assert [row["step"] for row in theirs] == [row["step"] for row in ours] == ["1", "2", "3", "4", "5", "6"]
    for name in ("train/loss", "val/loss", "lr"):
        assert [float(row[name]) for row in theirs if row[name]] == [float(row[name]) for row in ours if row[name]]
    config = yaml.safe_load((run / "csv" / "hparams.yaml").read_text())
    assert (config["optimizer"]["weight_decay"], config["model"]["n_embd"]) == (0.2, 8)


def test_tensorboard_shows_each_step_once_with_samples_and_the_present_config(run: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown: Any = EventAccumulator(str(run / "tensorboard"))
    shown.Reload()
    assert [event.step for event in shown.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in shown.Scalars("train/loss")] == pytest.approx(
        [float(row["train/loss"]) for row in table(run / "metrics.csv")]
    )
    assert [event.step for event in shown.Scalars("val/loss")] == [3, 6]
    samples = shown.Tensors("samples/text_summary")
    assert [event.step for event in samples] == [2, 4, 6]
    assert b"step|prompt|expected|answer" in samples[-1].tensor_proto.string_val[0]
    config = yaml.safe_load((run / "tensorboard" / "hparams.yaml").read_text())
    assert config["optimizer"]["weight_decay"] == 0.2


def test_weights_and_biases_gets_each_step_once_under_one_run(run: Path) -> None:
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2 and {file.stem for file in files} == {"run-run"}
    history = [row for file in files for row in tracked(file)]
    steps = [row["trainer/global_step"] for row in history if "train/loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [row["trainer/global_step"] for row in history if "samples/nrows" in row] == [2, 4, 6]


def tracked(file: Path) -> list[dict[str, Any]]:
    """The rows of an offline run's history, from LevelDB's log format: 7 bytes of header, then blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    new_record: Any = wandb_internal_pb2.Record  # pyright: ignore[reportAttributeAccessIssue]  # generated code without types
    content, position = file.read_bytes(), 7
    rows: list[dict[str, Any]] = []
    record = b""
    while position + 7 < len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        part = content[position + 7 : position + 7 + length]
        position += 7 + length
        record = part if kind in (1, 2) else record + part  # full or first, middle, last
        if kind in (1, 4):
            parsed = new_record()
            parsed.ParseFromString(record)
            if parsed.HasField("history"):
                items = parsed.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("logger=[csv,tensorbord]", "There is no logger 'tensorbord'; did you mean 'tensorboard'?"),
        ("logger=tensorbord", "There is no logger 'tensorbord'; did you mean 'tensorboard'?"),
    ],
)
def test_a_logger_that_does_not_exist_is_refused_with_the_nearest_one(
    tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(ResonanceError) as refused:
        main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, override])
    assert sentence in str(refused.value)


def test_without_tensorboard_the_extra_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.tracking.find_spec", lambda _: None)
    with pytest.raises(ResonanceError, match=r"pip install 'resonance\[tensorboard\]'"):
        main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, "logger=tensorboard"])
