"""The command line answers everything with words and an exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resonance.cli.main import find_commands

COMMANDS = find_commands()


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


@pytest.fixture
def another_package(tmp_path: Path) -> Path:
    """An installed package of somebody else's, with a command `greet`, one without a config, and a broken one."""
    (tmp_path / "greetings" / "configs" / "tone").mkdir(parents=True)
    (tmp_path / "greetings" / "configs" / "tone" / "kind.yaml").write_text("# Kind.\nword: dear\n")
    (tmp_path / "greetings" / "configs" / "greet.yaml").write_text(
        "# Usage: resonance greet NAME [key=value ...]\n#\n# Greet somebody.\n\n"
        "defaults:\n  - _self_\n  - tone: kind\n\nname: null # whom\n"
    )
    (tmp_path / "greetings" / "__init__.py").write_text("")
    (tmp_path / "greetings" / "cli.py").write_text(
        "from pathlib import Path\n"
        "from resonance.hydra_config import compose\n"
        "def main(overrides):\n"
        "    config = compose('greet', overrides, Path(__file__).parent / 'configs')\n"
        "    print(f'Hello, {config.tone.word} {config.name}!')\n"
        "def wave(overrides):\n"
        "    print('waves', overrides)\n"
    )
    (tmp_path / "greetings" / "broken.py").write_text("import a_module_that_nobody_has\n")
    info = tmp_path / "greetings-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.2\nSummary: Says hello.\n")
    (info / "entry_points.txt").write_text(
        "[resonance.commands]\ngreet = greetings.cli:main\nwave = greetings.cli:wave\n"
        "broken = greetings.broken:main\ncheckpoints = greetings.broken:main\ngarbled = ???\nempty = \n"
    )
    return tmp_path


def with_package(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return resonance(*arguments, PYTHONPATH=os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


def test_another_package_adds_commands(another_package: Path) -> None:
    overview = with_package(another_package, "--help").stdout
    assert "  greet        Greet somebody.\n" in overview
    assert "  wave         Says hello.\n" in overview
    assert "  train " in overview
    assert with_package(another_package, "greet", "Ada").stdout == "Hello, dear Ada!\n"
    assert with_package(another_package, "wave", "hand=left").stdout == "waves ['hand=left']\n"
    page = with_package(another_package, "greet", "--help").stdout
    assert page.startswith("Usage: resonance greet NAME [key=value ...]\n")
    assert "tone = kind    one of: kind" in page
    assert "  name: null # whom" in page


def test_the_configs_of_another_package_are_checked_as_ours(another_package: Path) -> None:
    run = with_package(another_package, "greet", "nam=Ada")
    assert run.returncode == 2
    assert "There is no key 'nam'; did you mean 'name'?" in run.stderr
    assert "There is no tone 'rude'; there are kind." in with_package(another_package, "greet", "tone=rude").stderr


def test_a_broken_command_is_one_sentence_and_breaks_no_other(another_package: Path) -> None:
    run = with_package(another_package, "broken")
    assert run.returncode == 1
    assert "greetings 1.2 does not provide its command 'broken'" in run.stderr
    assert "a_module_that_nobody_has" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert "does not provide its command 'garbled'" in with_package(another_package, "garbled").stderr


def test_no_other_package_replaces_a_command_of_ours(another_package: Path) -> None:
    assert with_package(another_package, "checkpoints", f"root={another_package}", "json=true").stdout.startswith("[")
