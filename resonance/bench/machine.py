"""The machine's limits: memory bandwidth, speed of matrix products, and the ceilings that they set."""

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from resonance.engine.kernels.build import KernelsUnavailable, interface, library
from resonance.engine.kernels.packing import BITS_PER_WEIGHT
from resonance.engine.memory import Arena
from resonance.engine.quantization import Precision
from resonance.model_config import GPT2Config

CACHE_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "int8": 2, "int4": 2}  # of one number of a key or value
MATMUL = 1024, 1024, 3072  # rows, inputs, outputs
CUDA_MATMUL = 8192, 8192, 8192
SIZES_MB = (64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Machine:
    """The measured limits of a machine, each the best of several tries."""

    processor: str
    cores: int
    threads: int
    torch: str
    read_gb_per_s: dict[str, float]  # by size in MB of the memory read, because of processor caches
    matmul_gflop_per_s: dict[str, float]  # by precision
    kernels_unavailable: str | None = None  # why the engine computes with torch here; None: it has its C++ kernels

    def as_json(self) -> dict[str, object]:
        """For the JSON file."""
        return asdict(self)


def weight_bytes(config: GPT2Config, precision: Precision) -> float:
    """Bytes read for one token: every matrix once, the head included; the embeddings' rows do not count."""
    matrices = config.n_layer * 12 * config.n_embd**2 + config.vocab_size * config.n_embd
    return matrices * BITS_PER_WEIGHT[precision] / 8


def decode_ceiling(machine: Machine, config: GPT2Config, precision: Precision, batch: int, position: int) -> float:
    """Tokens a second at full memory bandwidth, if nothing else took time."""
    weights = weight_bytes(config, precision)
    cache = batch * position * 2 * config.n_layer * config.n_embd * CACHE_BYTES[precision]
    return batch * machine.read_gb_per_s[read_size(weights + cache)] * 1e9 / (weights + cache)


def prefill_ceiling(machine: Machine, config: GPT2Config, precision: Precision, tokens: int) -> float:
    """Tokens a second at full speed of matrix products: of fp32's for fp32, else of the fastest type's."""
    products = config.n_layer * (24 * config.n_embd**2 + 2 * config.n_embd * tokens)
    rates = machine.matmul_gflop_per_s
    return (rates["fp32"] if precision == "fp32" else max(rates.values())) * 1e9 / products


def read_size(nbytes: float) -> str:
    """The measured size nearest to `nbytes`."""
    return str(min(SIZES_MB, key=lambda size: abs(size - nbytes / 1e6)))


def measure(threads: int, seconds: float = 0.4) -> Machine:
    """Measure this machine with `threads` threads, each figure for about `seconds`."""
    torch.set_num_threads(threads)
    nbytes = SIZES_MB[-1] * 1_000_000
    read = _read(Arena(nbytes).empty((nbytes // 4,), torch.float32), threads, seconds)
    rows, inputs, outputs = MATMUL
    operations = 2 * rows * inputs * outputs
    matmul = {
        name: matmul_gflop_per_s(dtype, seconds) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    a, b = (torch.randint(-127, 127, shape, dtype=torch.int8) for shape in ((rows, inputs), (inputs, outputs)))
    matmul["int8"] = operations / _best(lambda: torch._int_mm(a, b), seconds) / 1e9  # pyright: ignore[reportPrivateUsage]
    return Machine(processor(), os.cpu_count() or 1, threads, torch.__version__, read, matmul, _kernels_unavailable())


def matmul_gflop_per_s(dtype: torch.dtype, seconds: float = 0.4, device: torch.device | None = None) -> float:
    """The best speed of a matrix product of `dtype` in `seconds`; on a GPU one that is large enough to fill it."""
    rows, inputs, outputs = MATMUL
    if device is not None and device.type == "cuda":
        rows, inputs, outputs = CUDA_MATMUL
    generator = torch.Generator().manual_seed(0)  # a training run's random numbers stay as they are
    a = torch.randn(rows, inputs, generator=generator).to(device, dtype)
    b = torch.randn(inputs, outputs, generator=generator).to(device, dtype)

    def work() -> None:
        torch.mm(a, b)
        if a.is_cuda:
            torch.cuda.synchronize(a.device)

    return 2 * rows * inputs * outputs / _best(work, seconds) / 1e9


def _kernels_unavailable() -> str | None:
    try:
        library()
    except KernelsUnavailable as reason:
        return str(reason)
    return None


def _read(buffer: Tensor, threads: int, seconds: float) -> dict[str, float]:
    # The faster of torch and our kernel.
    buffer.fill_(1)
    rates: dict[str, float] = {}
    for size in SIZES_MB:
        block = buffer[: size * 250_000]
        best = _best(block.sum, seconds / 2)
        with suppress(KernelsUnavailable):
            read = library().resonance_read
            address = interface().cast("uint8_t *", block.data_ptr())
            best = min(best, _best(partial(read, address, block.nbytes, threads), seconds / 2))
        rates[str(size)] = block.nbytes / best / 1e9
    return rates


def _best(work: Callable[[], object], seconds: float) -> float:
    best, deadline = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < deadline or best == float("inf"):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def processor() -> str:
    """The processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
