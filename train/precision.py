"""Resolves `trainer.accelerator` and `precision`: what `auto` means on this machine, and what is refused."""

import torch

from resonance.cpu import cpu_has_bf16
from resonance.hydra_config import ConfigError

# Lightning's short names, and its full ones.
_FULL_NAMES = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


def resolve_accelerator(accelerator: str) -> str:
    """Lightning's value: `auto` is a CUDA GPU (or ROCm's) if there is one, else the CPU.

    Raises ConfigError for Apple's GPU, which Lightning would take for `auto` and `gpu` as well.
    """
    on_apple = not torch.cuda.is_available() and torch.backends.mps.is_available()
    if accelerator == "mps" or (accelerator == "gpu" and on_apple):
        raise ConfigError(
            f"trainer.accelerator={accelerator} is refused: losses are added up in float64, which Apple's GPUs do not "
            "have; use trainer.accelerator=cpu."
        )
    if accelerator == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    return accelerator


def resolve_precision(precision: str | int, accelerator: str) -> str:
    """Lightning's full name of a precision; `auto` is `best_precision`.

    Raises ConfigError for a precision that trains wrongly, or that Lightning would replace.
    """
    name = str(precision)
    name = best_precision(accelerator) if name == "auto" else _FULL_NAMES.get(name, name)
    if name == "16-true":
        raise ConfigError(
            "trainer.precision=16-true is refused: small gradients become 0 in fp16 and large sums infinite, and the "
            f"model does not learn; use {best_precision(accelerator)}, or 16-mixed on a GPU."
        )
    if name == "16-mixed" and not _on_cuda(accelerator):
        raise ConfigError(
            "trainer.precision=16-mixed needs a CUDA GPU, and there is none for this run (Lightning would take "
            f"bf16-mixed unasked); use {best_precision(accelerator)}."
        )
    return name


def resolve_deterministic(deterministic: bool | str, accelerator: str) -> bool | str:
    """Lightning's value: `auto` is `warn`, but false on a CUDA GPU, where deterministic algorithms are slower.

    Raises ConfigError for a value that does not exist.
    """
    if deterministic == "auto":
        return False if _on_cuda(accelerator) else "warn"
    if deterministic not in (True, False, "warn"):
        raise ConfigError(f"trainer.deterministic must be auto, warn, true or false, not {deterministic!r}.")
    return deterministic


def best_precision(accelerator: str) -> str:
    """`bf16-mixed` if the hardware multiplies in bf16, else `32-true`."""
    on_cuda = _on_cuda(accelerator)
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_cuda else cpu_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def _on_cuda(accelerator: str) -> bool:
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
