"""What the processor computes fast."""

from pathlib import Path


def cpu_has_bf16() -> bool:
    """Whether the CPU has AVX-512 BF16, AMX or Arm's BF16; without them bf16 is emulated, and slower than fp32."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    return any(flag in flags.split() for flag in ("avx512_bf16", "amx_bf16", "bf16"))
