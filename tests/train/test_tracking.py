"""Tracking never blocks training, and the environment sets its mode."""

import socket
import time
from pathlib import Path

import pytest
import wandb

from resonance import wandb_run
from resonance.hydra_config import ConfigError
from train.tracking import wandb_logger

KEY = "0" * 40


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    wandb.finish()


@pytest.fixture
def silent_server():
    """The URL of a server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def logger(folder: Path):
    return wandb_logger(folder=folder, name="run", project="resonance", entity=None, tags=[])


def test_a_server_that_does_not_answer_costs_seconds_and_the_run_is_tracked_offline(
    tmp_path, monkeypatch, capsys, silent_server
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setattr(wandb_run, "REACH_TIMEOUT_S", 0.5)
    started = time.monotonic()
    made = logger(tmp_path)
    assert time.monotonic() - started < 20
    assert made.experiment.offline
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
    output = capsys.readouterr().out
    assert f"W&B cannot be used online ({silent_server}: timed out); the run is tracked offline" in output


def test_a_server_that_refuses_connections_is_told(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert logger(tmp_path).experiment.offline
    assert "http://127.0.0.1:9: [Errno 111] Connection refused" in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "offline_runs"), [("offline", 1), ("dryrun", 1), ("disabled", 0)])
def test_the_mode_of_the_environment_is_kept(tmp_path, monkeypatch, capsys, mode, offline_runs) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_MODE", mode)
    logger(tmp_path)
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == offline_runs
    assert "cannot be used online" not in capsys.readouterr().out


def test_a_mode_that_does_not_exist_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ConfigError, match="WANDB_MODE is 'ofline'; it must be one of online, offline, disabled"):
        logger(tmp_path)
