"""What a run shows of itself: utilization, memory, samples."""

import csv
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resonance.bench.machine import matmul_gflop_per_s
from resonance.hydra_config import ConfigError
from resonance.report.curves import Curve
from tests.train.tiny_runs import TINY_RUN
from train.callbacks.metrics_csv import COLUMNS
from train.callbacks.samples import read_samples
from train.callbacks.throughput import Throughput
from train.callbacks.utilization import Utilization, measured_peak
from train.objectives import SFT
from train.report.advice import advice
from train.report.facts import changed_settings
from train.report.page import train_page, write_report
from train.report.run_record import read_run
from train.run import main
from train.step_batch import Computed, prepare

SETTINGS = [
    *TINY_RUN,
    "data.test_size=4",
    "data.max_turns=2",
    "trainer.precision=32-true",
    "trainer.val_every_n_steps=2",
    "callbacks.samples.every_n_steps=2",
    "callbacks.samples.count=2",
    "callbacks.samples.max_new_tokens=4",
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


@pytest.mark.parametrize("weight", ["token", "turn", "example"])
def test_the_utilization_counts_tokens_whatever_the_loss_counts(weight: str) -> None:
    batch = {
        "input_ids": torch.zeros(1, 6, dtype=torch.int64),
        "labels": torch.tensor([[-100, 3, 4, -100, 5, -100]]),
        "position_ids": torch.arange(6)[None],
        "document_ids": torch.tensor([[0, 0, 0, 0, 0, -1]]),
    }
    prepared = prepare(batch, SFT(weight=weight))
    assert prepared.computed == Computed(tokens=5, supervised=3)
    assert prepared.units == {"token": 3, "turn": 2, "example": 1}[weight]
    assert prepared.computed.plus(prepared.computed, 1 / 3) == pytest.approx((20 / 3, 4))


def test_the_peak_memory_of_the_process_is_logged(run: Path) -> None:
    values = [float(row["peak_memory_mb"]) for row in rows_of(run)]
    assert values == sorted(values)
    assert 100 < values[-1] < 100_000


def test_the_peak_of_a_machine_is_the_most_that_was_ever_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    first = measured_peak(torch.float32, torch.device("cpu"))
    assert 1e9 < first < 1e15
    kept = tmp_path / "cache" / "machine.json"
    (key,) = json.loads(kept.read_text())
    kept.write_text(json.dumps({key: 7e9}))
    assert measured_peak(torch.float32, torch.device("cpu")) == 7e18
    kept.write_text(json.dumps({key: 1e-3}))  # of a busy machine
    assert measured_peak(torch.float32, torch.device("cpu")) > 1e9
    assert json.loads(kept.read_text())[key] > 1


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_2", "MODEL_PARALLEL"])
def test_another_strategy_that_shards_the_weights_is_refused(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer.strategy={strategy} is refused: .* use fsdp2 or ddp"):
        train(tmp_path, "run=run", "trainer.max_steps=1", f"trainer.strategy={strategy}", "logger=none")
    assert not (tmp_path / "run").exists()


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


def test_a_run_ends_with_a_report_of_its_curves_samples_and_facts(run: Path) -> None:
    page = (run / "train.html").read_text()
    for text in ("Training of run", "finished", "Gradient norm", "val/loss", "Samples over time", "machine-hours"):
        assert text in page
    assert re.search(r"<dt>Served weights</dt><dd>of step \d+, the best by val/loss", page)
    assert re.search(r"<dt>Parameters</dt><dd>[\d,]+</dd>", page)
    for command in ("eval", "chat", "serve"):  # its folder, as it is not in checkpoints/
        assert f"resonance {command} checkpoint={run}" in page
    assert 'http-equiv="refresh"' not in page  # it is over
    assert "default-src &#39;none&#39;" in page


def test_the_report_can_be_watched_while_the_run_trains(tmp_path: Path, run: Path) -> None:
    page = write_report(shutil.copytree(run, tmp_path / "copy"), running=True, total_steps=100).read_text()
    assert 'http-equiv="refresh"' in page
    assert re.search(r"running · step \d+ of 100", page)


def test_the_report_shows_an_answer_as_text(tmp_path: Path, run: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    row = {"step": 1, "prompt": "<b>p</b>", "expected": "e", "answer": "<script>alert(1)</script>"}
    (folder / "samples.jsonl").write_text(json.dumps(row) + "\n")
    page = write_report(folder).read_text()
    assert "<script" not in page and "<b>p" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_report_shows_control_characters_of_an_answer(tmp_path: Path, run: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    row = {"step": 1, "prompt": "a\nb", "expected": "e", "answer": "\x1b[31m \u202e"}
    (folder / "samples.jsonl").write_text(json.dumps(row) + "\n")
    page = write_report(folder).read_text()
    assert "\\u{1b}[31m \\u{202e}" in page
    assert "\x1b" not in page and "\u202e" not in page


def test_the_report_says_which_settings_differ_from_the_defaults(run: Path) -> None:
    changed = changed_settings(read_run(run))
    assert ("data.train_size", "24", "40000") in changed
    assert ("trainer.val_every_n_steps", "2", "null") in changed
    assert {"run", "checkpoints_dir", "data._target_", "seed"}.isdisjoint(key for key, *_ in changed)


def test_the_lowest_validation_loss_of_a_long_run_is_one_that_was_measured(tmp_path: Path, run: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    losses = [5.0] * 1000
    losses[500] = 1.25
    rows = "".join(f"{step + 1},0,5.0,{loss},1e-3,1,1,1,1\n" for step, loss in enumerate(losses))
    (folder / "metrics.csv").write_text(",".join(COLUMNS) + "\n" + rows)
    assert "lowest 1.25 at step 501" in write_report(folder).read_text()


def test_training_and_validation_share_the_chart_of_a_metric(run: Path) -> None:
    names = ("train/reward_accuracy", "val/reward_accuracy")
    record = replace(read_run(run), curves={name: Curve(name, [(1, 0.5), (2, 1.0)]) for name in names})
    page = train_page(record, running=False, total_steps=2)
    assert page.count("<figure>") == 1
    assert "<figcaption>Reward accuracy" in page and ">100%</text>" in page
    assert '<th scope="row">2</th><td class="number">1</td>' in page  # the table of validations


def test_the_report_of_an_earlier_run_is_written_again(run: Path) -> None:
    (run / "train.html").unlink()
    before = (run / "metrics.csv").read_bytes()
    assert main([f"checkpoints_dir={run.parent}", "resume=run", "report_only=true"]) is None
    assert (run / "train.html").is_file()
    assert (run / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["report_only=true"], "needs the run whose report to write: resume=RUN"),
        (["report_only=true", "resume=run", "seed=3"], "leave out seed="),
        (["report_only=true", "resume=nothing"], "There is no run 'nothing' to report on"),
    ],
)
def test_a_report_of_nothing_is_refused(run: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        main([f"checkpoints_dir={run.parent}", *overrides])


def advised(run: Path, losses: list[float], ended: str = "finished", events: Sequence[Mapping[str, object]] = ()):
    record = read_run(run)
    curve = Curve("val/loss", [(10 * (i + 1), loss) for i, loss in enumerate(losses)])
    record = replace(record, curves={"val/loss": curve}, events=events)
    return {each.title: each for each in advice(record, ended, 60)}


def test_a_loss_that_still_falls_asks_for_more_steps(run: Path) -> None:
    found = advised(run, [3.0, 2.5, 2.2, 2.0, 1.8, 1.6])["Train longer"]
    assert "2 at step 40, 1.6 at step 60 (20.0% less)" in found.reason
    assert found.command == f"resonance train resume={run} trainer.max_steps=120"


def test_too_few_validations_for_a_trend_are_what_is_said_last(run: Path) -> None:
    titles = [*advised(run, [3.0, 2.0, 1.0])]
    assert titles[-1] == "Validate more often" and "Train longer" not in titles


def test_a_loss_that_rises_again_is_overfitting(run: Path) -> None:
    found = advised(run, [3.0, 2.0, 1.5, 1.6, 1.8, 2.0])
    title = "It overfits: train for fewer steps, or on more data"
    assert "lowest at step 30 (1.5) and is 33.3% above that at step 60 (2)" in found[title].reason
    assert "Train longer" not in found


def test_pairs_that_are_all_ranked_right_need_no_more_steps(run: Path) -> None:
    record = read_run(run)
    curves = {"val/loss": [3.0, 2.0, 1.0, 0.5], "val/reward_accuracy": [0.8, 0.9, 1.0, 1.0]}
    points = {name: Curve(name, [*enumerate(values, start=1)]) for name, values in curves.items()}
    titles = [each.title for each in advice(replace(record, curves=points), "finished", 4)]
    assert "More steps would only widen the margins" in titles and "Train longer" not in titles


def test_spikes_of_the_gradient_ask_for_a_lower_rate(run: Path) -> None:
    spikes = [{"event": "spike", "step": step, "of": "grad_norm", "value": 9.0, "usual": 1.0} for step in (1, 2, 3)]
    assert "spiked 3 times" in advised(run, [1.0] * 6, events=spikes)["Calm the gradients"].reason
    assert "Calm the gradients" not in advised(run, [1.0] * 6, events=spikes[:2])


def test_a_run_that_was_stopped_between_logged_steps_names_the_step_that_was_saved(tmp_path: Path, run: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "copy")
    metadata = json.loads((folder / "resonance.json").read_text())
    metadata["training"]["ended"] = "interrupted"
    metadata["last"] |= {"steps": 13, "tokens_seen": 5000}
    (folder / "resonance.json").write_text(json.dumps(metadata))
    page = write_report(folder, total_steps=60).read_text()
    assert "interrupted · step 13 of 60" in page and "The run was interrupted at step 13 of 60." in page
    assert '<div class="value">5,000</div><div class="spread">in 13 steps</div>' in page
    assert "Validate more often" not in page


def test_a_run_that_was_stopped_says_how_it_goes_on(run: Path) -> None:
    found = advised(run, [3.0, 2.0, 1.5, 1.2], ended="interrupted")["Go on"]
    assert found.command == f"resonance train resume={run}"
    assert "interrupted at step 40 of 60" in found.reason
