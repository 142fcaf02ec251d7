"""A mixture's run measures the validation loss of each source."""

import csv
import json
from pathlib import Path

import pytest
import torch

from data.loader import collate
from data.sources import BasicsSource, FileSource
from data.tokenize import tokenize
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from tests.train.tiny_runs import ON_CPU, SIZES
from train.losses import supervised_loss
from train.run import main

SETTINGS = [
    *SIZES,
    *ON_CPU,
    "data=mixture",
    "data.sources.basics.train_size=24",
    "data.sources.basics.validation_size=4",
    "data.sources.basics.test_size=4",
    "data.sources.basics.max_turns=2",
    "trainer.precision=32-true",
    "trainer.max_steps=4",
    "trainer.val_every_n_steps=2",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
    "run=run",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(60)]))
    return path


def train(tmp_path: Path, path: Path, *overrides: str) -> Path:
    main([f"checkpoints_dir={tmp_path / 'runs'}", *SETTINGS, f"data.sources.instructions.path={path}", *overrides])
    return tmp_path / "runs" / "run"


def test_the_loss_of_each_source_is_that_of_its_validation_examples(tmp_path: Path, path: Path) -> None:
    folder = train(tmp_path, path)
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert [row["step"] for row in rows] == ["2", "4"]
    model, template = Checkpoint.open(folder / "last").load_model(torch.float32), ChatTemplate.named("chatml")
    sources = {
        "instructions": FileSource(str(path)),
        "basics": BasicsSource(train_size=24, validation_size=4, test_size=4, max_turns=2),
    }
    total = count = 0.0
    for name, source in sources.items():
        data = tokenize(source.splits().validation, template, 64)
        batch = collate(data, [(i,) for i in range(len(data))])
        with torch.no_grad():
            arguments = {key: batch[key] for key in ("position_ids", "document_ids")}
            hidden = model(batch["input_ids"], **arguments, return_hidden_states=True)
            loss, supervised = supervised_loss(hidden, model.head_weight, batch["labels"])
        assert float(rows[-1][f"val/loss/{name}"]) == pytest.approx(loss.item() / supervised, rel=1e-4)
        total, count = total + loss.item(), count + supervised
    assert float(rows[-1]["val/loss"]) == pytest.approx(total / count, rel=1e-4)


def test_a_source_s_loss_chooses_the_best_weights(tmp_path: Path, path: Path) -> None:
    folder = train(tmp_path, path, "save.monitor=val/loss/basics")
    monitor = Checkpoint.open(folder).metadata.monitor
    assert monitor is not None and monitor.name == "val/loss/basics"
    assert monitor.value is not None
    with pytest.raises(ResonanceError, match="did you mean 'val/loss/basics'"):
        train(tmp_path, path, "overwrite=true", "save.monitor=val/loss/basic")
