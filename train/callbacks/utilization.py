"""How much of the machine training uses: the share of its peak speed, and the peak of its memory."""

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich import get_console

from resonance.atomic_files import write_text_atomically
from resonance.bench.machine import matmul_gflop_per_s, processor
from resonance.hydra_config import ConfigError
from resonance.paths import home
from train.callbacks.scores import callbacks_of
from train.sft_module import SFTModule

_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32}  # by the first part of a precision
_MEGABYTE = 1e6
_SECONDS, _SECONDS_AGAIN = 0.4, 0.1  # that the peak is measured for the first time, and again


class Utilization(Callback):
    """Measures the model FLOPs utilization (MFU) of training, of all processes' devices.

    It is the floating-point operations that the model needs a second, over the peak of matrix products that was
    measured on this machine with the run's precision. Counted are the products with weights: 6 operations for each
    weight and token (2 forward, 4 backward; 4 where an adapter trains over frozen weights), and of the head only where
    it is computed, at supervised tokens. Tokens without a backward pass (of KTO's estimate of the divergence) count a
    third. Attention's own products and recomputed activations are not counted.
    `peak_tflops` is the peak of one device, or `auto`: the most that was measured at
    the start of this and earlier runs, which `RESONANCE_HOME/cache/machine.json` keeps.
    """

    def __init__(self, peak_tflops: float | str = "auto") -> None:
        is_number = isinstance(peak_tflops, int | float) and not isinstance(peak_tflops, bool) and peak_tflops > 0
        if peak_tflops != "auto" and not is_number:
            raise ConfigError(
                f"callbacks.utilization.peak_tflops must be auto or the device's peak in TFLOP/s, not {peak_tflops!r}."
            )
        self._setting = peak_tflops
        self.peak: float | None = None  # operations per second of all devices; None where it could not be measured
        self._per_token = self._per_supervised = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SFTModule)
        self._per_token, self._per_supervised = _operations(pl_module)
        dtype = _DTYPES.get(str(trainer.precision).partition("-")[0])
        if isinstance(self._setting, int | float):
            self.peak = self._setting * 1e12 * trainer.world_size
        elif dtype is not None and pl_module.device.type in ("cpu", "cuda"):
            self.peak = measured_peak(dtype, pl_module.device) * trainer.world_size

    def flops(self, module: SFTModule) -> float:
        """The operations since the start, up to a constant."""
        return module.computed.tokens * self._per_token + module.computed.supervised * self._per_supervised


def utilization_of(trainer: Trainer) -> Utilization | None:
    """The run's callback, if it has one that knows the peak."""
    return next((each for each in callbacks_of(trainer) if isinstance(each, Utilization) and each.peak), None)


def has_utilization(callbacks: Sequence[Callback]) -> bool:
    """Whether a run measures its utilization."""
    return any(isinstance(callback, Utilization) for callback in callbacks)


def peak_memory_mb(device: torch.device) -> float:
    """The most megabytes so far: allocated by this process on a CUDA device, else resident (RSS)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MEGABYTE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    return peak * (1 if sys.platform == "darwin" else 1024) / _MEGABYTE


def measured_peak(dtype: torch.dtype, device: torch.device) -> float:
    """The peak of matrix products on a device, in operations per second: the most that a run's start ever measured.

    A known peak is measured again for a moment, because the machine may have been busy when it was measured.
    """
    path = home() / "cache" / "machine.json"
    threads = f"{torch.get_num_threads()} threads"
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {threads}"
    key = f"{hardware}, torch {torch.__version__}, {str(dtype).removeprefix('torch.')}"
    known = _read(path)
    before = known.get(key, 0.0)
    now = matmul_gflop_per_s(dtype, _SECONDS_AGAIN if before else _SECONDS, device)
    if now > before:
        known[key] = now
        get_console().print(f"peak of matrix products: {now:,.0f} GFLOP/s ({key})", highlight=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomically(path, json.dumps(known, indent=1))
        except OSError:  # it is measured again the next time
            pass
    return max(now, before) * 1e9


def _operations(module: SFTModule) -> tuple[float, float]:
    """Operations for each token, and for each token at which the head is computed."""
    config, trains = module.model.config, module.model.head_weight.requires_grad
    blocks = 12 * config.n_layer * config.n_embd**2
    frozen = not all(parameter.requires_grad for parameter in module.model.parameters())
    return blocks * (4.0 if frozen else 6.0), module.head_size * config.n_embd * (6.0 if trains else 4.0)


def _read(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): float(value) for key, value in content.items()} if isinstance(content, dict) else {}
