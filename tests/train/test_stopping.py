"""Early ends of a run: non-finite numbers, spikes before them, and signals."""

import csv
import json
from pathlib import Path

import pytest
import torch

from resonance.checkpoint import Checkpoint
from resonance.cli.main import run
from tests.train.tiny_runs import ON_CPU, SIZES, WIDER

SMALL = [
    *SIZES,
    *WIDER,
    *ON_CPU,
    "data.train_size=60",
    "data.validation_size=8",
    "data.test_size=8",
    "trainer.max_steps=12",
    "trainer.val_every_n_steps=4",
    "save.every_n_steps=4",
    "callbacks.samples=false",
    "logger=none",
]

# What befalls a run after its sixth step, by the value of the environment's BEFALLS.
CALLBACK = """
import os, signal
from lightning.pytorch.callbacks import Callback

class Befalls(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step != 6:
            return
        match os.environ.get("BEFALLS"):
            case "weight":
                next(module.model.parameters()).data.fill_(float("nan"))
            case "signal":
                os.kill(os.getpid(), signal.SIGINT)
            case "signals":
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == 6 and os.environ.get("BEFALLS") == "gradient":
            next(module.model.parameters()).grad[0, 0] = float("inf")
        if trainer.global_step == 6 and os.environ.get("BEFALLS") == "spike":
            for parameter in module.model.parameters():
                parameter.grad *= 1e4
"""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Train in a folder of its own; returns the exit code and what was printed."""
    (tmp_path / "befalls.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(tmp_path)

    def train(befalls: str, *overrides: str) -> tuple[int, str, str]:
        monkeypatch.setenv("BEFALLS", befalls)
        code = run(["train", f"checkpoints_dir={tmp_path}", *overrides])
        return code, *capfd.readouterr()

    return train


NEW = ["run=it", *SMALL, "+callbacks.befalls._target_=befalls.Befalls"]


def steps(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["train/loss"] and float(row["train/loss"]) < 20 for row in rows)
    return [row["step"] for row in rows]


def strictly(text: str) -> dict[str, object]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("befalls", "message"),
    [
        ("weight", "its loss is nan and its gradient's norm is nan"),
        ("gradient", "its gradient's norm is inf"),
    ],
)
def test_a_number_that_is_not_finite_stops_the_run_before_its_step(tmp_path, train, befalls, message) -> None:
    code, _, errors = train(befalls, *NEW)
    assert code == 1
    (error,) = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert "Step 7 is not taken" in error and message in error
    assert "It was made from batch 6, with" in error and "examples: example " in error
    assert f"The last good state is that of step 4, in {tmp_path / 'it' / 'last.ckpt'}" in error
    assert "Traceback" not in errors

    folder = tmp_path / "it"
    assert steps(folder) == [str(step) for step in range(1, 7)]
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in Checkpoint.find("it", tmp_path).load_model().state_dict().values())
    strictly((folder / "resonance.json").read_text())
    event = strictly((folder / "events.jsonl").read_text())
    assert (event["event"], event["step"], event["saved_step"]) == ("non_finite", 7, 4)
    assert event["rows"] and all(1 <= row <= 60 for row in event["rows"])

    code, _, errors = train("nothing", "resume=it")
    assert code == 0, errors
    assert steps(folder) == [str(step) for step in range(1, 13)]


def test_a_spike_is_told_with_what_is_usual_and_recorded(tmp_path, train) -> None:
    code, output, errors = train("spike", *NEW, "callbacks.spikes.window=6")
    assert code == 0, errors
    assert len([line for line in output.splitlines() if line.startswith("step 7  grad_norm ")]) == 1, output
    assert "is a spike: usual is" in output
    events = [strictly(line) for line in (tmp_path / "it" / "events.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["of"] == "grad_norm"]
    assert (event["event"], event["step"]) == ("spike", 7)
    assert event["value"] > 1000 * event["usual"]


def test_a_second_signal_stops_at_once_and_says_what_is_kept(tmp_path, train) -> None:
    code, _, errors = train("signals", *NEW)
    assert code == 130
    assert "Stopping after this step, to save it; Ctrl-C again stops at once." in errors
    assert "Stopped at once; step 4 is kept. resume=it goes on from it." in errors
    assert torch.load(tmp_path / "it" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_a_second_signal_before_anything_is_saved_says_so(tmp_path, train) -> None:
    code, _, errors = train("signals", *NEW, "save.every_n_steps=100", "trainer.val_every_n_steps=100")
    assert code == 130
    assert "Stopped at once; no step had been saved, so nothing is kept." in errors


def test_a_first_signal_saves_the_step_and_says_which(tmp_path, train) -> None:
    code, output, errors = train("signal", *NEW)
    assert code == 130
    assert "Stopping after this step, to save it" in errors
    assert "it was stopped; " in output and "resume=it goes on." in output
    assert torch.load(tmp_path / "it" / "last.ckpt", weights_only=True)["global_step"] == 6
