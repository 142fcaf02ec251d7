"""`plan=true` and `batch.size=auto`: what a run needs before its first step."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from resonance.errors import ResonanceError
from resonance.system_memory import resident_bytes
from tests.processes import resonance
from tests.train.tiny_runs import TINY_RUN
from train import run_memory
from train.run import main

SMALL = [
    *TINY_RUN,
    "model.n_layer=2",
    "model.n_head=2",
    "model.n_embd=64",
    "batch.size=4",
    "data.train_size=60",
    "data.test_size=4",
    "data_cache=false",
    "trainer.max_steps=3",
    "callbacks.samples.every_n_steps=0",
    "callbacks.utilization=false",
    "logger=none",
]
AUTO = [override for override in SMALL if not override.startswith("batch.size")]


def gigabytes(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_a_plan_names_what_needs_memory_and_time_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"checkpoints_dir={tmp_path}", "run=planned", "plan=true", *SMALL]) is None
    text = capsys.readouterr().out
    for name in ("parameters", "weights", "gradients", "optimiser state", "activations", "buffers of the loss"):
        assert re.search(rf"{name} .*\d", text), text
    assert "it fits" in text and "3 steps" in text and "resonance train" not in text
    assert not list(tmp_path.iterdir())


def test_a_micro_batch_holds_no_more_rows_than_the_data_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"checkpoints_dir={tmp_path}", "plan=true", *SMALL, "batch.size=512", "batch.packing=false"])
    text = capsys.readouterr().out
    assert re.search(r"micro-batch +60 rows", text) and "of batch.size=512 the data fills no more" in " ".join(
        text.split()
    ), text


def test_what_does_not_fit_is_answered_by_commands_that_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    has = resident_bytes() / 1e9 + 0.4
    line = [f"plan_memory={has:.2f}", *SMALL, "batch.size=2048", "data.train_size=2000"]
    main([f"checkpoints_dir={tmp_path}", "run=planned", "plan=true", *line])
    text = capsys.readouterr().out
    assert f"{has:.2f} GB that plan_memory= allows: it does not fit" in text
    (command, *_) = [line for line in text.splitlines() if line.startswith("resonance train ")]
    assert "plan=" not in command and "batch.size=2048" not in command
    rows, accumulate = (int(re.search(rf"{key}=(\d+)", command)[1]) for key in ("batch.size", "grad_batches"))  # pyright: ignore[reportOptionalSubscript]
    assert rows * accumulate == 2048 and rows < 2048


def test_a_plan_for_a_gpu_is_made_of_formulas_and_without_a_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = run_memory.complete

    def on_a_gpu(config: Any, name: str, *arguments: Any, **more: Any) -> Any:
        made = complete(config, name, *arguments, **more)
        if name == "trainer":
            made.strategy._root_device = torch.device("cuda", 0)
        return made

    monkeypatch.setattr(run_memory, "complete", on_a_gpu)
    monkeypatch.setattr(run_memory, "make_step", None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (8_000_000_000, 8_000_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    peaks: list[float] = []
    for precision in ("bf16-mixed", "32-true"):
        larger = [f"trainer.precision={precision}", "model.n_embd=256", "model.n_head=4"]
        main([f"checkpoints_dir={tmp_path}", "plan=true", *SMALL, *larger])
        text = capsys.readouterr().out
        assert "of 8.00 GB that this GPU has: it fits" in text and "no step is made on this device" in text, text
        peaks.append(gigabytes(r"activations +([\d.]+) GB", text))
    assert peaks[0] <= peaks[1]


def test_auto_keeps_the_rows_of_a_step_and_records_its_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([f"checkpoints_dir={tmp_path}", "run=auto", "batch.size=auto", *AUTO])
    text = capsys.readouterr().out
    stored = yaml.safe_load((tmp_path / "auto" / "train.yaml").read_text())
    rows, accumulate = stored["batch"]["size"], stored["trainer"]["accumulate_grad_batches"]
    assert rows * accumulate == 8  # the default of batch.size
    assert f"micro-batches of {rows} rows" in text
    with pytest.raises(ResonanceError, match=r"batch\.size=auto chooses for a new run"):
        main([f"checkpoints_dir={tmp_path}", "resume=auto", "batch.size=auto"])


def test_auto_is_refused_where_not_even_a_row_fits(tmp_path: Path) -> None:
    with pytest.raises(ResonanceError, match=r"found no size that fits.* it can have 0\.01 GB"):
        main([f"checkpoints_dir={tmp_path}", "run=none", "batch.size=auto", "plan_memory=0.01", *AUTO])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ["data.train_size=600"],
        ["data.train_size=60"],  # fewer rows than a micro-batch may have
        ["data.train_size=600", "adapter=lora", "activation_checkpointing=true"],
    ],
    ids=["plain", "few rows", "lora"],
)
def test_the_estimate_is_within_a_fifth_of_the_measured_peak(tmp_path: Path, changes: list[str]) -> None:
    left_out = ("model.", "callbacks.utilization", "batch.size", "data.train_size")
    line = [*(override for override in SMALL if not override.startswith(left_out)), *changes]
    planned = resonance("train", f"checkpoints_dir={tmp_path}", "run=planned", "plan=true", *line)
    assert planned.returncode == 0, planned.stderr
    trained = resonance("train", f"checkpoints_dir={tmp_path}", "run=trained", *line)
    assert trained.returncode == 0, trained.stderr
    with (tmp_path / "trained" / "metrics.csv").open() as file:
        measured = max(float(row["peak_memory_mb"]) for row in csv.DictReader(file))
    assert 1000 * gigabytes(r"(?m)^peak ([\d.]+) GB", planned.stdout) == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["plan_memory=much"], "plan_memory must be a number of gigabytes"),
        (["plan_memory=8"], "plan_memory is for plan=true and"),
        (["plan_memory=0"], "plan_memory must be a number of gigabytes"),
        (["plan=maybe"], "plan must be true or false"),
        (["plan=true", "resume=latest"], "plan=true plans a new run"),
        (["plan=true", "objective=dpo"], "know objective=sft alone"),
        (["batch.size=many"], "batch.size must be a whole number"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ResonanceError, match=sentence):
        main([f"checkpoints_dir={tmp_path}", *SMALL, *overrides])
