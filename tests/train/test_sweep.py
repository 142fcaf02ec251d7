"""Several runs by `--multirun`, their table, and what is kept of a sweep that ends early."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from resonance.checkpoint import Checkpoint
from resonance.cli.main import run
from resonance.hydra_config import compose, group_options
from tests.train.tiny_runs import TINY_RUN
from train.run import main
from train.run_config import RunSpec
from train.sweep import SweepError
from train.sweep import sweep as sweep_with
from train.sweep_results import JobResult, print_results

SMALL = [
    *TINY_RUN,
    "model.n_head=2",
    "data.train_size=40",
    "data.validation_size=8",
    "trainer.max_steps=2",
    "callbacks.samples=false",
    "logger=none",
]

CALLBACK = """
import os, signal
from lightning.pytorch.callbacks import Callback

class Befalls(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        run = os.path.basename(trainer.default_root_dir)
        if os.environ.get("BEFALLS") == f"signal {run}":
            os.kill(os.getpid(), signal.SIGINT)
        if os.environ.get("BEFALLS") == f"failure {run}":
            raise RuntimeError("out of luck")

    def on_validation_end(self, trainer, module):
        if os.environ.get("BEFALLS") == f"late signal {os.path.basename(trainer.default_root_dir)}":
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Sweep in a folder of its own; returns the exit code and what was printed."""
    (tmp_path / "sweep_befalls.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def sweep(*words: str, befalls: str = "") -> tuple[int, str, str]:
        monkeypatch.setenv("BEFALLS", befalls)
        code = run(["train", f"checkpoints_dir={tmp_path / 'runs'}", *SMALL, *words])
        return code, *capfd.readouterr()

    return sweep


def jobs(folder: Path) -> list[dict[str, object]]:
    return [json.loads((folder / str(number) / "job.json").read_text()) for number in range(len([*folder.glob("*/")]))]


def test_a_sweep_trains_each_combination_and_names_the_best(sweep, tmp_path: Path) -> None:
    code, output, errors = sweep("--multirun", "run=s", "optimizer.lr=1e-3,0.3", "~callbacks.spikes")
    assert code == 0, errors
    runs = {name: Checkpoint.find(name, tmp_path / "runs") for name in ("s-0", "s-1")}
    values = {name: checkpoint.metadata.monitor.value for name, checkpoint in runs.items()}
    best, other = sorted(values, key=lambda name: values[name])
    assert f"best: {best}, val/loss {values[best]:.4f}, in {tmp_path / 'runs' / best}" in output
    assert output.rindex(f"│ {best} ") < output.rindex(f"│ {other} ")  # the table's order
    assert "optimizer.lr" in output and "callbacks.spikes" not in output  # only what differs has a column
    assert [job["value"] for job in jobs(tmp_path / "multirun" / "s")] == [values["s-0"], values["s-1"]]

    written = [(folder / "metrics.csv").stat().st_mtime_ns for folder in (tmp_path / "runs").iterdir()]
    code, again, errors = sweep("--multirun", "run=s", "optimizer.lr=1e-3,0.3", "~callbacks.spikes")
    assert code == 0, errors
    assert f"best: {best}" in again
    assert written == [(folder / "metrics.csv").stat().st_mtime_ns for folder in (tmp_path / "runs").iterdir()]

    code, _, errors = sweep("--multirun", "run=s", "optimizer.lr=1e-4,0.2")
    assert code == 2
    assert "The sweep s was of other settings; choose another run=NAME." in errors
    assert Checkpoint.find("s-0", tmp_path / "runs").metadata.monitor.value == values["s-0"]


@pytest.mark.slow
def test_a_stopped_sweep_says_what_is_done_and_goes_on(sweep, tmp_path: Path) -> None:
    line = ["-m", "run=t", "seed=1,2,3", "+callbacks.befalls._target_=sweep_befalls.Befalls"]
    code, output, errors = sweep(*line, befalls="signal t-1")
    assert code == 130
    assert "The sweep t was stopped; done: t-0. The same command with run=t goes on." in errors
    assert [job["state"] for job in jobs(tmp_path / "multirun" / "t")] == ["done", "stopped"]
    code, output, errors = sweep(*line)
    assert code == 0, errors
    assert [job["state"] for job in jobs(tmp_path / "multirun" / "t")] == ["done"] * 3
    assert "t-2" in output and "best: t-" in output


def test_a_signal_in_a_run_s_last_step_ends_the_sweep_after_that_run(sweep, tmp_path: Path) -> None:
    line = ["-m", "run=y", "seed=1,2", "+callbacks.befalls._target_=sweep_befalls.Befalls"]
    code, _, errors = sweep(*line, befalls="late signal y-0")
    assert code == 130
    assert "The sweep y was stopped; done: y-0. The same command with run=y goes on." in errors
    assert [job["state"] for job in jobs(tmp_path / "multirun" / "y")] == ["done"]


def test_a_failed_job_does_not_lose_the_others(sweep, tmp_path: Path) -> None:
    line = ["-m", "run=u", "seed=1,2", "+callbacks.befalls._target_=sweep_befalls.Befalls"]
    code, output, errors = sweep(*line, befalls="failure u-0")
    assert code == 0 and not errors
    table = output[output.index("state") :]
    assert "failed" in table and "u-0 failed: out of luck" in table and "best: u-1" in table
    assert "RuntimeError" in (tmp_path / "multirun" / "u" / "0" / "error.log").read_text()


def fail_at(*numbers: int) -> Callable[[RunSpec], float]:
    """A training that ends at once, and fails in the jobs of these numbers."""

    def train(spec: RunSpec) -> float:
        number = int(spec.folder.name.rpartition("-")[2])
        if number in numbers:
            raise RuntimeError("out of luck")
        return 1.0 / (number + 1)

    return train


def test_a_sweep_whose_jobs_all_fail_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match=r"^All 2 runs of the sweep v failed; v-0: out of luck$") as failure:
        sweep_with(["run=v", "seed=1,2"], fail_at(0, 1))
    assert failure.value.exit_code == 1 and "Error executing" not in capfd.readouterr().err


@pytest.mark.parametrize("failing", [(0,), (1, 2), (0, 1, 2)])
def test_optuna_goes_on_after_failed_trials(
    failing: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    monkeypatch.chdir(tmp_path)
    line = ["run=w", "hparams_search=optuna", "hydra.sweeper.n_trials=3"]
    with pytest.raises(SweepError, match=r"^All 3 runs") if len(failing) == 3 else nullcontext():
        sweep_with(line, fail_at(*failing))
    states = [job["state"] for job in jobs(tmp_path / "multirun" / "w")]
    assert states == ["failed" if number in failing else "done" for number in range(3)]
    output, errors = capfd.readouterr()
    assert "best: w-" in output or len(failing) == 3
    assert "Error executing" not in errors and "Failed" not in errors


def test_optuna_needs_runs_that_measure_its_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match=r"^No run of the sweep x measured val/loss, which the sweeper chooses by\.$"):
        sweep_with(["run=x", "hparams_search=optuna", "hydra.sweeper.n_trials=2"], lambda spec: None)


def test_a_sweep_takes_the_keys_of_the_groups_that_it_chooses(sweep, tmp_path: Path) -> None:
    chosen = ["optimizer.adamw_lr=0.01", "optimizer=muon", "+optimizer.momentum=0.8,0.9"]
    code, _, errors = sweep("-m", "run=g", *chosen, "debug=fdr")
    assert code == 0, errors
    settings = [yaml.safe_load((tmp_path / "runs" / run / "train.yaml").read_text()) for run in ("g-0", "g-1")]
    assert [setting["optimizer"]["momentum"] for setting in settings] == [0.8, 0.9]
    assert settings[0]["optimizer"]["adamw_lr"] == 0.01


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("optimizer.lr=1e-3,fast", "optimizer.lr must be a number, not 'fast'."),
        ("model=nano,gpt5", "There is no model 'gpt5'; did you mean 'gpt2'?"),
        ("optimiser.lr=1,2", "There is no key 'optimiser.lr'; did you mean 'optimizer.lr'?"),
        ("batch.size=1,0", "batch.size must be at least 1"),
        ("resume=latest seed=1,2", "leave out resume=."),
        ("trainer.devices=2 seed=1,2", "A job of a sweep trains in one process"),
        ("hydra/launcher=nowhere seed=1,2", "There is no hydra/launcher 'nowhere'"),
        ("seed=range(1,1)", "seed=range(1,1) stands for no value."),
        ("optimizer.lr=interval(1e-4,1e-3)", "has values without end; list some, or add hydra/sweeper=optuna."),
        ("hydra.sweeper.max_batch_size=0 seed=1,2", "hydra.sweeper.max_batch_size must be at least 1, not 0."),
        ("hydra.sweep.dir=/proc/nowhere seed=1,2", "The sweep cannot begin: [Errno 2] No such file or directory"),
        ("hydra/launcher=raya seed=1,2", "Ray with 'resonance[ray]'"),
        ("hydra.sweep.dri=x seed=1,2", "did you mean 'hydra.sweep.dir'?"),
        ("hparams_search=grids", "There is no hparams_search 'grids'; did you mean 'grid'?"),
        ("hparams_search=grid save.mode=maxi", "save.mode must be min or max"),
    ],
)
def test_a_mistake_is_one_sentence_before_any_job(sweep, tmp_path: Path, words: str, sentence: str) -> None:
    code, output, errors = sweep("--multirun", *words.split())
    assert code == 2
    assert sentence in errors and len(errors.strip().splitlines()) == 1
    assert not output and not (tmp_path / "multirun").exists()


def test_train_returns_the_monitored_score(tmp_path: Path) -> None:
    score = main([f"checkpoints_dir={tmp_path}", "run=it", *SMALL, "debug=fdr", "data.validation_size=4"])
    assert score == Checkpoint.find("it", tmp_path).metadata.monitor.value


@pytest.mark.slow
def test_optuna_looks_for_the_best_values(sweep, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, output, errors = sweep("hparams_search=optuna", "--multirun", "run=o", "hydra.sweeper.n_trials=2")
    assert code == 0, errors
    results = jobs(tmp_path / "multirun" / "o")
    assert len(results) == 2 and len({str(job["overrides"]) for job in results}) == 2
    assert "best: o-" in output
    assert "best_value" in (tmp_path / "multirun" / "o" / "optimization_results.yaml").read_text()
    code, _, errors = sweep("hparams_search=optuna", "--multirun", "hydra.sweeper.storage=sqlite:///o.db")
    assert code == 2 and "leave out hydra.sweeper.storage" in errors
    for wrong, sentence in (
        ("save.mode=max", "save.mode=max needs hydra.sweeper.direction=maximize."),
        ("hydra.sweeper.direction=[minimize,maximize]", "save.mode=min needs hydra.sweeper.direction=minimize."),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials must be at least 1, not 0."),
        ("hydra.sweeper.sampler._target_=optuna.samplers.Nope", "The sweep cannot begin: Error locating target"),
    ):
        code, output, errors = sweep("hparams_search=optuna", "--multirun", wrong)
        assert code == 2 and sentence in errors and len(errors.strip().splitlines()) == 1 and not output


@pytest.mark.slow
def test_joblib_trains_jobs_at_the_same_time(sweep, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    code, output, errors = sweep("-m", "run=j", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert code == 0, errors
    assert [job["state"] for job in jobs(tmp_path / "multirun" / "j")] == ["done", "done"]
    assert "best: j-" in output


def test_every_debug_config_shortens_a_run() -> None:
    for choice in group_options("debug"):
        config = compose("train", ["experiment=demo", f"debug={choice}"])
        assert config.trainer.max_steps <= 100 < compose("train", ["experiment=demo"]).trainer.max_steps


def test_the_table_puts_the_highest_first_where_more_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        JobResult(f"r-{number}", "/r", [f"seed={number}"], "eval/x", "max", "done", value)
        for number, value in enumerate([0.1, None, 0.9])
    ]
    assert [result.run for result in print_results(rows)] == ["r-2", "r-0", "r-1"]
