"""Runs `tests/fake_cuda/check_*.py` in a Python whose torch takes fake CUDA tensors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_cuda import device

pytestmark = pytest.mark.slow  # compiles the device, and starts torch

ROOT = Path(__file__).parents[1]


def test_the_cuda_paths_run_on_fake_tensors(tmp_path: Path) -> None:
    if reason := device.why_impossible():
        pytest.skip(reason)
    environment = {**os.environ, "RESONANCE_FAKE_CUDA": str(device.build(tmp_path))}
    options = ["-p", "tests.fake_cuda.device", "-p", "no:cacheprovider", "-o", "python_files=check_*.py", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/fake_cuda"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
