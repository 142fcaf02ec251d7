"""`make test-gpu` and `make bench-gpu` where there is no GPU, in a Python without what only our other tests need."""

import subprocess
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.slow,  # starts torch
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU on this machine"),
]

ROOT = Path(__file__).parents[1]
ABSENT = ("hypothesis", "httpx", "playwright", "xdist", "pytest_timeout", "grimp")
WITHOUT = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
sys.argv = sys.argv[2:]  # after -m
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    (tmp_path / "without.py").write_text(WITHOUT)
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "without.py"} "$@"\n')
    path.chmod(0o755)
    return path


def make(target: str, python: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", target, f"GPU_PYTHON={python}", "GPU_ENV=PYTHONPATH=. PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"]
    # Nothing of what was collected is installed here.
    return subprocess.run(
        [*command, "--assume-old=build/gpu-packages"], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_tests_skip_and_say_why(python: Path) -> None:
    done = make("test-gpu", python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "there is no CUDA GPU on this machine" in done.stdout
    assert "passed" not in done.stdout and "failed" not in done.stdout


def test_a_checkout_that_is_not_installed_has_the_commands(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tests" / "gpu" / "commands.py", tmp_path], check=True)
    [package] = distributions(path=[str(tmp_path)])
    assert set(package.entry_points) == set(distribution("resonance").entry_points.select(group="resonance.commands"))


def test_the_benchmark_says_in_a_sentence_that_there_is_none(python: Path) -> None:
    done = make("bench-gpu", python)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if not line.startswith("make")] == [
        "There is no CUDA GPU here that torch can use, and bench-gpu measures nothing else."
    ]
