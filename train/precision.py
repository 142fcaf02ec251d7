"""Which number format `precision=auto` means on this machine."""

from pathlib import Path
from typing import Literal

import torch


def best_precision(accelerator: str) -> Literal["bf16-mixed", "32-true"]:
    """`bf16-mixed` where the hardware multiplies in bf16, else `32-true`; as Lightning names them."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported() if on_gpu else _cpu_multiplies_bf16()
    return "bf16-mixed" if fast else "32-true"


def _cpu_multiplies_bf16() -> bool:
    """Whether the CPU has AVX-512 BF16, AMX or Arm's BF16; without them bf16 is emulated, and slower than fp32."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    return any(flag in flags.split() for flag in ("avx512_bf16", "amx_bf16", "bf16"))
