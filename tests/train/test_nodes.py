"""Hydra instantiates the trainer, callbacks and loggers; unknown keys are errors."""

import sys
from pathlib import Path

import pytest
import yaml

from resonance.errors import ResonanceError
from tests.train.tiny_runs import TINY_RUN
from train.run import main

TINY = [
    *TINY_RUN,
    "trainer.max_steps=2",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("+callbacks.foo=1", "callbacks.foo must be a callback, a node with a _target_, or false, not 1"),
        ("+callbacks.samples.foo=1", "There is no key 'callbacks.samples.foo'"),
        ("+callbacks.samples.evry_n_steps=1", "did you mean 'every_n_steps'?"),
        ("+callbacks.mine._target_=nowhere.Mine", "callbacks.mine._target_ is nowhere.Mine, which cannot be imported"),
        ("+callbacks.mine._target_=pathlib.Path", "callbacks.mine must be a Lightning callback, not PosixPath."),
        ("+trainer.profilr=simple", "There is no key 'trainer.profilr'; did you mean 'profiler'?"),
        ("trainer.profiler=smple", "There is no trainer.profiler 'smple'; did you mean 'simple'?"),
        ("+trainer.limit_train_batches=3", "trainer.limit_train_batches cannot be set here; set trainer.max_steps."),
        ("+logger.foo=1", "logger.foo must be a logger, a node with a _target_, or false, not 1"),
        ("+optimizer.momentum=0.9", "There is no key 'optimizer.momentum'"),
        ("+batch.sise=3", "There is no key 'batch.sise'; did you mean 'batch.size'?"),
        ("+foo=1", "There is no key 'foo'; there are activation_checkpointing, adapter, batch, "),
        ("+save.induction_heads=3", "There is no key 'save.induction_heads'"),
        ("+sede=3", "There is no key 'sede'; did you mean 'seed'?"),
        ("optimizer.betas=[0.9]", "optimizer.betas must be two numbers of at least 0 and less than 1, not [0.9]."),
        ("optimizer.betas=0.9", "optimizer.betas must be two numbers of at least 0 and less than 1, not 0.9."),
        ("trainer.accelerator=tpu", "Lightning cannot do what trainer.* asks for: Requirement 'torch_xla"),
    ],
)
def test_what_nothing_reads_is_refused_by_name_before_anything_is_written(
    tmp_path: Path, override: str, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ResonanceError) as refused:
        main([f"checkpoints_dir={tmp_path}", "run=refused", *TINY, override])
    assert sentence in str(refused.value)
    assert not caplog.records
    assert not list(tmp_path.iterdir())


def test_callbacks_loggers_and_lightning_s_arguments_come_from_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            f"checkpoints_dir={tmp_path}",
            "run=123",
            *TINY,
            "+trainer.profiler=simple",
            "+trainer.max_time=00:01:00:00",
            "callbacks.progress=false",
            "+callbacks.rates._target_=lightning.pytorch.callbacks.LearningRateMonitor",
            "+callbacks.rates.logging_interval=step",
            "+logger.csv._target_=lightning.pytorch.loggers.CSVLogger",
            f"+logger.csv.save_dir={tmp_path / 'csv'}",
            "+logger.csv.flush_logs_every_n_steps=1",
        ]
    )
    folder = tmp_path / "123"
    assert "run_training_batch" in (folder / "fit-profile.txt").read_text()
    [written] = (tmp_path / "csv").rglob("metrics.csv")
    assert "lr-AdamW" in written.read_text() and "train/loss" in written.read_text()
    assert "step 2  val/loss" not in capsys.readouterr().out  # as the progress bar prints it
    assert yaml.safe_load((folder / "train.yaml").read_text())["callbacks"]["rates"]["logging_interval"] == "step"


def test_without_a_logger_group_a_run_keeps_its_metrics_only(tmp_path: Path) -> None:
    main([f"checkpoints_dir={tmp_path}", "run=silent", *TINY[:-1], "~logger"])
    assert (tmp_path / "silent" / "metrics.csv").is_file()
    assert not (tmp_path / "silent" / "wandb").exists()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["template.name="], "template"),
        (["run=."], "run must be the name of a folder"),
        (["callbacks=none"], "There is no callbacks 'none'"),
        (["logger=3"], "There is no logger '3'"),
        (["~optimizer.lr"], "optimizer"),
        (["~batch"], "batch"),
        (["batch.size=null"], "batch.size"),
        (["seed=null"], "seed"),
    ],
)
def test_odd_inputs_end_in_a_sentence(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ResonanceError) as refused:
        main([f"checkpoints_dir={tmp_path}", "run=odd", *TINY, *overrides])
    assert sentence in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_callback_of_one_s_own_is_found_where_the_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_callbacks_here.py").write_text(
        "from lightning.pytorch.callbacks import Callback\n\n\n"
        "class Mine(Callback):\n"
        "    def __init__(self, name):\n        self.name = name\n\n"
        "    def on_train_end(self, trainer, pl_module):\n"
        "        open(f'{trainer.default_root_dir}/{self.name}', 'w').close()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    own = ["+callbacks.mine._target_=my_callbacks_here.Mine", "+callbacks.mine.name=ended"]
    main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, *own])
    assert (tmp_path / "run" / "ended").is_file()
