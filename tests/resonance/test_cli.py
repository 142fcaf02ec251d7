"""The command line answers everything with words and an exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resonance.cli.main import COMMANDS


def resonance(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "resonance.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_help_lists_every_command() -> None:
    run = resonance("--help")
    assert run.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in run.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_is_documentation(command: str) -> None:
    run = resonance(command, "--help")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"Usage: resonance {command}")
    assert "Keys and their defaults:" in run.stdout
    assert len(run.stdout.splitlines()) > 6


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("trian", "There is no command 'trian'; did you mean 'train'?"),
        ("train --epochs 3", "There is no option '--epochs'"),
        ("train quickly", "'quickly' is not a setting; write key=value"),
        ("train trainer.max_step=3", "did you mean 'trainer.max_steps'?"),
        ("train model=gpt5", "There is no model 'gpt5'"),
        ("train resume=nothing", "There is no run 'nothing' to resume"),
        ("train data=json", "data.path=FILE"),
        ("train data=json data.path=/nowhere.json", "There is no file /nowhere.json"),
        ("eval checkpoint=nothing", "There is no checkpoint 'nothing'"),
        ("chat checkpoint=nothing", "There is no checkpoint 'nothing'"),
        ("serve checkpoint=nothing", "There is no checkpoint 'nothing'"),
        ("weights gpt9", "gpt9"),
        ("export checkpoint=nothing out=/tmp/x", "There is no checkpoint 'nothing'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(line: str, sentence: str, tmp_path: Path) -> None:
    run = resonance(*line.split(), RESONANCE_HOME=str(tmp_path))
    assert run.returncode == 2, run.stderr
    assert sentence in run.stderr
    assert run.stderr.startswith("Error: ")
    assert len(run.stderr.strip().splitlines()) == 1
    assert "Traceback" not in run.stderr + run.stdout


def test_debug_shows_the_traceback() -> None:
    run = resonance("train", "model=gpt5", "debug=true")
    assert "Traceback" in run.stderr


def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "resonance.cli", "train", "experiment=demo", f"checkpoints_dir={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def test_the_answer_to_help_does_not_wait_for_torch() -> None:
    commands = "main.run(['--help']); main.run(['train', '--help'])"
    program = f"import sys; from resonance.cli import main; {commands}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip().endswith("False")
