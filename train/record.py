"""What a run's record says beside its config, so that it can be made again: command, hardware, versions, precision."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from lightning import Trainer

LIBRARIES = ("resonance", "torch", "lightning", "numpy", "safetensors", "tiktoken", "datasets", "hydra-core")


def training_record(trainer: Trainer, *, command: str, row_length: int | None) -> dict[str, object]:
    """The settings that `auto` came to, and what the run runs on."""
    return {
        "command": command,
        "started_at": now(),
        "precision": str(trainer.precision),
        "accelerator": type(trainer.accelerator).__name__.removesuffix("Accelerator").lower(),
        "devices": trainer.num_devices,
        "world_size": trainer.world_size,
        "row_length": row_length,
        "hardware": _hardware(),
        "versions": library_versions(),
    }


def now() -> str:
    """The time, as `resonance.json` writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _hardware() -> dict[str, object]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": platform.platform(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def library_versions() -> dict[str, str]:
    """Python's version, and those of the libraries that a curve depends on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
