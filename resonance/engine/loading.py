"""Resolves what an engine computes with: checkpoint, device, precision, cache and model runner."""

from typing import cast, get_args

import torch

from resonance.checkpoint import Checkpoint
from resonance.engine.cuda_graph_runner import CudaGraphRunner, has_flash_attention
from resonance.engine.kv_cache import KVCache
from resonance.engine.model_runner import ModelRunner, TorchRunner, fastest_precision, make_runner
from resonance.engine.quantization import Precision
from resonance.engine.quantized_linear import quantized
from resonance.engine.sampling_params import EngineError
from resonance.model import GPT2
from resonance.model_config import GPT2Config


def find_checkpoint(checkpoint: Checkpoint | str) -> Checkpoint:
    """The checkpoint itself, or the one with this name. Raises CheckpointError when there is none."""
    return Checkpoint.find(checkpoint) if isinstance(checkpoint, str) else checkpoint


def resolve_device(name: str) -> torch.device:
    """The device with this name; "auto" is a GPU if there is one.

    Raises EngineError for a missing device, and for one that is no CPU and no CUDA or ROCm GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        if chosen.type == "mps":
            raise EngineError(
                "device=mps is refused: sampling needs float64, which Apple's GPUs do not have; use device=cpu."
            )
        if chosen.type not in ("cpu", "cuda"):
            raise EngineError(f"device={name} is refused: the engine computes on cpu and cuda; use device=cpu.")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise EngineError(f"There is no device {name!r} to compute on ({reason}); use device=cpu.") from error
    return chosen


def resolve_precision(config: GPT2Config, dtype: str, quantize: str | None, device: torch.device) -> Precision:
    """The precision to compute in; "auto" is bf16 on a GPU, and on a CPU the one that is measured to be faster.

    Raises EngineError when `dtype` or `quantize` is unknown.
    """
    for name, value, known in (
        ("dtype", dtype, ("auto", "fp32", "bf16")),
        ("quantize", quantize, (None, "int8", "int4")),
    ):
        if value not in known:
            raise EngineError(f"{name} must be one of {', '.join(map(str, known))}, not {value!r}.")
    if quantize is not None:
        return cast("Precision", quantize)
    if dtype == "auto":
        return fastest_precision(config) if device.type == "cpu" else "bf16"
    return cast("Precision", dtype)


def cache_and_runner(
    model: GPT2, slots: int, precision: Precision, *, kernels: bool
) -> tuple[KVCache, ModelRunner, tuple[str, ...]]:
    """A cache on the model's device, the model runner that uses it, and notes on what is unavailable.

    Raises EngineError when `precision` is unknown.
    """
    if precision not in get_args(Precision):
        raise EngineError(f"precision must be one of {', '.join(get_args(Precision))}, not {precision!r}.")
    device = model.head_weight.device
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    if device.type == "cpu":
        cache = KVCache(model.config, slots, dtype, device)
        runner, notes = make_runner(model, cache, precision, kernels=kernels)
        return cache, runner, notes
    model = quantized(model, precision)
    if has_flash_attention(device, dtype, model.config.head_dim):
        cache = KVCache(model.config, slots + 1, dtype, device)  # and a spare slot
        return cache, CudaGraphRunner(model, cache), ()
    cache = KVCache(model.config, slots, dtype, device)
    why = f"bf16, and heads of a multiple of 8 up to 256 wide, not {_obstacle(device, dtype, model.config.head_dim)}"
    return cache, TorchRunner(model, cache), (
        f"Computed without FlashAttention and CUDA graphs: they need an NVIDIA card of Ampere or later, {why}.",
    )  # fmt: skip


def _obstacle(device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    if torch.version.hip:
        return "ROCm"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "an older one"
    return "fp32" if dtype == torch.float32 else f"heads of {head_dim}"
