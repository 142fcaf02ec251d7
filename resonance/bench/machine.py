"""The machine's limits: memory bandwidth, speed of matrix products, and the ceilings that they set."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from resonance.bench import loops
from resonance.engine.kernels.build import KernelsUnavailable, library
from resonance.engine.kernels.packing import BITS_PER_WEIGHT
from resonance.engine.memory import Arena
from resonance.engine.quantization import Precision
from resonance.model_config import GPT2Config

CACHE_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "int8": 2, "int4": 2}  # of one number of a key or value
MATMUL = 1024, 1024, 3072  # rows, inputs, outputs
MATMUL_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
CUDA_MATMUL = 8192, 8192, 8192
SIZES_MB = (64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Machine:
    """The measured limits of a machine, each the best of several loops and tries."""

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

    def best_of(self, other: "Machine") -> "Machine":
        """The higher of each figure and that of another measurement."""
        return replace(
            self,
            read_gb_per_s=_highest(self.read_gb_per_s, other.read_gb_per_s),
            matmul_gflop_per_s=_highest(self.matmul_gflop_per_s, other.matmul_gflop_per_s),
        )

    def read_rate(self, nbytes: float) -> float:
        """GB/s over `nbytes`, between the measured sizes by interpolation."""
        points = sorted((int(size), rate) for size, rate in self.read_gb_per_s.items())
        size = nbytes / 1e6
        if size <= points[0][0]:
            return points[0][1]
        for (low, low_rate), (high, high_rate) in pairwise(points):
            if size <= high:
                return low_rate + (high_rate - low_rate) * (size - low) / (high - low)
        return points[-1][1]


def _highest(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    return {name: max(rate, second[name]) for name, rate in first.items()}


def weight_bytes(config: GPT2Config, precision: Precision) -> float:
    """Bytes read for one token: every matrix once, the head included; the embeddings' rows do not count."""
    matrices = config.n_layer * 12 * config.n_embd**2 + config.vocab_size * config.n_embd
    return matrices * BITS_PER_WEIGHT[precision] / 8


def decode_ceiling(machine: Machine, config: GPT2Config, precision: Precision, batch: int, position: int) -> float:
    """Tokens a second at full memory bandwidth, if nothing else took time."""
    weights = weight_bytes(config, precision)
    cache = batch * position * 2 * config.n_layer * config.n_embd * CACHE_BYTES[precision]
    return batch * machine.read_rate(weights + cache) * 1e9 / (weights + cache)


def prefill_ceiling(machine: Machine, config: GPT2Config, precision: Precision, tokens: int) -> float:
    """Tokens a second at full speed of matrix products: of fp32's for fp32, else of the fastest type's."""
    products = config.n_layer * (24 * config.n_embd**2 + 2 * config.n_embd * tokens)
    rates = machine.matmul_gflop_per_s
    return (rates["fp32"] if precision == "fp32" else max(rates.values())) * 1e9 / products


def train_ceiling(
    machine: Machine, config: GPT2Config, precision: Precision, supervised: float, attended: float
) -> float:
    """Tokens a second at full speed of matrix products: forward and backward, the head on the `supervised` share only.

    `attended` is the number of positions that a token attends to, on average.
    """
    block = 12 * config.n_embd**2 + 2 * config.n_embd * attended
    products = 6 * (config.n_layer * block + supervised * config.vocab_size * config.n_embd)
    return machine.matmul_gflop_per_s[precision] * 1e9 / products


def measure(threads: int, seconds: float = 0.4) -> Machine:
    """Measure this machine with `threads` threads, the best of all loops, each figure for about `seconds`."""
    torch.set_num_threads(threads)
    nbytes = SIZES_MB[-1] * 1_000_000
    read = _read(Arena(nbytes).empty((nbytes // 4,), torch.float32), threads, seconds)
    matmul = {str(precision): _multiply(precision, threads, seconds) for precision in MATMUL_PRECISIONS}
    return Machine(processor(), os.cpu_count() or 1, threads, torch.__version__, read, matmul, _kernels_unavailable())


def _multiply(precision: Precision, threads: int, seconds: float) -> float:
    best = 0.0
    for rows, inputs, outputs in loops.MATMULS:
        for loop in loops.products(precision, rows, inputs, outputs, threads):
            best = max(best, 2 * rows * inputs * outputs / _best(loop, seconds / 4) / 1e9)
    return best


def matmul_gflop_per_s(dtype: torch.dtype, seconds: float = 0.4, device: torch.device | None = None) -> float:
    """The best speed of torch's matrix product of `dtype` in `seconds`; on a GPU of one large enough to fill it."""
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
    buffer.fill_(1)
    rates: dict[str, float] = {}
    for size in SIZES_MB:
        block = buffer[: size * 250_000]
        best = min(_best(loop, seconds / 4) for loop in loops.reads(block, threads))
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
