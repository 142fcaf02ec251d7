"""Tests that need one CUDA GPU: `make test-gpu`. They skip without.

`RESONANCE_GPU_TESTS_ON=cpu` runs them on the CPU, which shows that the tests themselves are right.
"""

import os
from pathlib import Path

import pytest
import torch

from resonance.model import GPT2, GPT2Config

SMALL = GPT2Config(vocab_size=50257, context_length=256, n_layer=4, n_head=4, n_embd=256, dropout=0.0)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where to compute."""
    name = os.environ.get("RESONANCE_GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU on this machine")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


@pytest.fixture(scope="session")
def trained(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the demo's data, trained on the device for long enough that precision shows in its perplexity."""
    from train.run import main

    root = tmp_path_factory.mktemp("runs")
    steps = 300 if device.type == "cuda" else 3
    main([*run_options(root, device, "trained"), f"trainer.max_steps={steps}", "data.train_size=4000"])
    return root / "trained"


def run_options(root: Path, device: torch.device, run: str) -> list[str]:
    """Overrides of `resonance train` for a short run on the device."""
    return [
        f"checkpoints_dir={root}",
        f"run={run}",
        f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}",
        "trainer.devices=1",
        "trainer.precision=32-true",
        "trainer.log_every_n_steps=1",
        "data.train_size=400",
        "data.validation_size=16",
        "data.test_size=16",
        "batch.size=4",
        "batch.row_length=256",
        "model.dropout=0.0",
        "callbacks.samples.every_n_steps=0",
        "callbacks.progress=false",
        "logger=none",
    ]


def random_model(seed: int = 0) -> GPT2:
    """A model of SMALL's sizes whose logits are as large as a trained one's."""
    torch.manual_seed(seed)
    model = GPT2(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return model
