"""What a run shows of itself: utilization, memory, samples."""

import csv
import json
from pathlib import Path

import pytest
import torch

from resonance.bench.machine import matmul_gflop_per_s
from resonance.hydra_config import ConfigError
from train.callbacks.samples import read_samples
from train.callbacks.throughput import Throughput
from train.callbacks.utilization import Utilization, measured_peak
from train.run import main

SETTINGS = [
    "model.n_layer=1",
    "model.n_head=1",
    "model.n_embd=8",
    "model.context_length=64",
    "batch.size=2",
    "data.train_size=24",
    "data.validation_size=4",
    "data.test_size=4",
    "data.max_turns=2",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "trainer.val_every_n_steps=2",
    "callbacks.samples.every_n_steps=2",
    "callbacks.samples.count=2",
    "callbacks.samples.max_new_tokens=4",
    "callbacks.progress=false",
]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def train(root: Path, *overrides: str) -> Path:
    main([f"checkpoints_dir={root}", *SETTINGS, *overrides])
    return root / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    peak = "callbacks.utilization.peak_tflops=0.001"
    return train(tmp_path_factory.mktemp("runs"), "run=run", "trainer.max_steps=4", peak, "logger=none")


def test_the_utilization_is_the_operations_of_the_weights_over_the_peak(run: Path) -> None:
    last, before = rows_of(run)[-1], rows_of(run)[-2]
    tokens = int(last["tokens_seen"]) - int(before["tokens_seen"])
    seconds = tokens / float(last["tokens_per_s"])
    blocks, head = 12 * 8 * 8, 50257 * 8
    supervised = (float(last["mfu"]) * 1e9 * seconds / 6 - tokens * blocks) / head  # solved for the one unknown
    assert 0 < supervised < tokens
    assert supervised == pytest.approx(round(supervised), rel=0.02)


def test_the_peak_memory_of_the_process_is_logged(run: Path) -> None:
    values = [float(row["peak_memory_mb"]) for row in rows_of(run)]
    assert values == sorted(values)
    assert 100 < values[-1] < 100_000


def test_the_peak_is_measured_once_for_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    first = measured_peak(torch.float32, torch.device("cpu"))
    assert 1e9 < first < 1e15
    kept = tmp_path / "cache" / "machine.json"
    (key,) = json.loads(kept.read_text())
    kept.write_text(json.dumps({key: 7.0}))
    assert measured_peak(torch.float32, torch.device("cpu")) == 7e9


def test_measuring_the_peak_draws_no_random_numbers_of_the_run() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    matmul_gflop_per_s(torch.float32, 0.01)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_without_utilization_has_no_column_of_it(tmp_path: Path) -> None:
    folder = train(tmp_path, "run=run", "trainer.max_steps=1", "callbacks.utilization=false", "logger=none")
    assert "mfu" not in rows_of(folder)[0]


@pytest.mark.parametrize("value", ["much", 0, True, -1.0])
def test_a_peak_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="peak_tflops must be auto or the device's peak in TFLOP/s, not"):
        Utilization(value)  # pyright: ignore[reportArgumentType]  # what a config may hold


def test_a_pause_does_not_count_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 2.0, 7.0, 9.0])
    monkeypatch.setattr("train.callbacks.throughput.time.perf_counter", lambda: next(clock))
    throughput = Throughput()
    throughput.start(0)
    throughput.pause()  # at 2
    throughput.go_on()  # at 7
    assert throughput.lap(8) == 2.0  # at 9: 8 tokens in 4 seconds


def test_samples_ask_the_same_prompts_and_a_resumed_run_replaces_its_own(run: Path) -> None:
    rows = read_samples(run)
    assert [row["step"] for row in rows] == [2, 2, 4, 4]
    assert rows[0]["prompt"] == rows[2]["prompt"] != rows[1]["prompt"]
    path = run / "samples.jsonl"
    abandoned = json.dumps({**rows[0], "step": 6, "answer": "of a killed run"}) + '\n{"step": 8, "pro'
    path.write_text(path.read_text() + abandoned)
    main([f"checkpoints_dir={run.parent}", "resume=run", "trainer.max_steps=6"])
    resumed = read_samples(run)
    assert [row["step"] for row in resumed] == [2, 2, 4, 4, 6, 6]
    assert resumed[:4] == rows
    assert resumed[4]["answer"] != "of a killed run"
