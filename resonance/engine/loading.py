"""What an engine computes with: the files, the device, the precision, the implementation."""

from typing import cast, get_args

import torch

from resonance.checkpoint import Checkpoint
from resonance.engine.cuda_graph_runner import GraphRunner
from resonance.engine.kv_cache import SlotCache
from resonance.engine.model_runner import Runner, fastest, make_runner
from resonance.engine.quantization import Precision, rounded
from resonance.engine.sampling_params import EngineError
from resonance.model import GPT2, GPT2Config


def opened(checkpoint: Checkpoint | str) -> Checkpoint:
    """The checkpoint, or the one of that name. Raises CheckpointError when there is none."""
    return Checkpoint.find(checkpoint) if isinstance(checkpoint, str) else checkpoint


def device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one. Raises EngineError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise EngineError(f"There is no device {name!r} to compute on ({reason}); use device=cpu.") from error
    return chosen


def precision(config: GPT2Config, dtype: str, quantize: str | None, place: torch.device) -> Precision:
    """The precision asked for; "auto" is bf16 on a GPU, and on a CPU what is measured to be faster.

    Raises EngineError when `dtype` or `quantize` is not a known one.
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
        return fastest(config) if place.type == "cpu" else "bf16"
    return cast("Precision", dtype)


def cache_and_runner(
    model: GPT2, slots: int, precision: Precision, *, kernels: bool
) -> tuple[SlotCache, Runner, tuple[str, ...]]:
    """A cache on the model's device, what computes the model with it, and notes on what could not be had.

    Raises EngineError when `precision` is not a known one.
    """
    if precision not in get_args(Precision):
        raise EngineError(f"precision must be one of {', '.join(get_args(Precision))}, not {precision!r}.")
    device = model.head_weight.device
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    cache = SlotCache(model.config, slots, dtype, device)
    if device.type == "cuda":
        return cache, GraphRunner(rounded(model, precision), cache), ()
    runner, notes = make_runner(model, cache, precision, kernels=kernels)
    return cache, runner, notes
