"""`resonance train` on a GPU: the CPU's curve, a resume to the bit, and GPT-2 Large in 8 GB."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.gpu.conftest import run_options
from train.run import main

EIGHT_GB = 8 * 10**9

LARGE = """
import sys
import torch
from train.run import main
total = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction(min(1.0, {limit} / total))
main(sys.argv[1:])
print("peak", torch.cuda.max_memory_allocated())
"""


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        (["trainer.precision=32-true"], 0.02),
        (["trainer.precision=32-true", "batch.packing=false"], 0.02),
        (["trainer.precision=bf16-mixed"], 0.1),
        (["trainer.precision=bf16-mixed", "adapter=lora"], 0.1),
    ],
    ids=["packed", "padded", "bf16", "lora"],
)
def test_losses_are_those_of_the_cpu(
    device: torch.device, tmp_path: Path, options: list[str], tolerance: float
) -> None:
    own, cpu = tmp_path / "own", tmp_path / "cpu"
    main([*run_options(tmp_path, device, "own"), "trainer.max_steps=12", *options])
    main([*run_options(tmp_path, torch.device("cpu"), "cpu"), "trainer.max_steps=12", *options])
    pairs = list(zip(losses(own), losses(cpu), strict=True))
    assert len(pairs) == 12
    assert max(abs(a - b) for a, b in pairs) < tolerance, pairs


def test_a_resumed_run_ends_with_the_same_bits(device: torch.device, tmp_path: Path) -> None:
    options = ["trainer.deterministic=true", "save.every_n_steps=4", "trainer.max_steps=8", "model.dropout=0.1"]
    main([*run_options(tmp_path, device, "whole"), *options])
    main([*run_options(tmp_path, device, "parts"), *options, "trainer.max_steps=4"])
    main([f"checkpoints_dir={tmp_path}", "resume=parts", "trainer.max_steps=8"])
    whole, parts = (load_file(tmp_path / run / "last" / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_gpt2_large_is_tuned_by_lora_in_8_gb(device: torch.device, tmp_path: Path) -> None:
    if device.type != "cuda":
        pytest.skip("a GPU's memory is limited")
    options = [
        *run_options(tmp_path, device, "large"),
        "model=gpt2-large",
        "model.weights=null",
        "adapter=lora",
        "adapter.base_dtype=bf16",
        "activation_checkpointing=true",
        "trainer.precision=bf16-mixed",
        "batch.row_length=1024",
        "batch.size=1",
        "trainer.max_steps=4",
    ]
    done = subprocess.run(
        [sys.executable, "-c", LARGE.format(limit=EIGHT_GB), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout.splitlines()[-1])
