"""Model runners: compute a step's chunks to hidden states and logits, and store keys and values in the cache."""

import time
from collections import abc, defaultdict
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from resonance.engine.kernels.bindings import KernelRunner
from resonance.engine.kernels.build import KernelsUnavailable
from resonance.engine.kv_cache import KVCache
from resonance.engine.quantization import Precision, fake_quantize
from resonance.engine.sampling_params import SamplingParams
from resonance.engine.sequence import Chunk, Sequence
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.pinned_memory import to_device

MEASURED_STEPS = 20
BF16_SPEEDUP = 0.8  # bf16 must take less than this share of fp32's time to be worth its rounding


class ModelRunner(Protocol):
    """Computes the model for the engine."""

    path: str  # the implementation's name in the statistics

    @property
    def nbytes(self) -> int:
        """The size of the weights."""
        ...

    def hidden(self, chunks: abc.Sequence[Chunk]) -> Tensor:
        """Compute all chunks; return their requested hidden states after the final LayerNorm, (tokens, n_embd)."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: (rows, n_embd) -> (rows, vocab) fp32, which the caller may change."""
        ...


def make_runner(
    model: GPT2, cache: KVCache, precision: Precision, *, kernels: bool
) -> tuple[ModelRunner, tuple[str, ...]]:
    """The fastest runner on this machine's CPU, and notes on what is unavailable."""
    reason = "they were switched off"
    if kernels:
        try:
            return KernelRunner(model, cache, precision), ()
        except KernelsUnavailable as unavailable:
            reason = str(unavailable)
    return TorchRunner(fake_quantize(model, precision), cache), (
        f"Computed by torch, which is slower than the C++ kernels: {reason}.",
    )


def fastest_precision(config: GPT2Config) -> Precision:
    """The faster of fp32 and bf16 for decoding on this CPU, measured on two layers of the model's width."""
    torch_state = torch.get_rng_state()
    small = replace(config, n_layer=2, vocab_size=64, context_length=64)
    model = GPT2(small).eval()
    torch.set_rng_state(torch_state)
    token = [Chunk(Sequence("", [0], SamplingParams(), 0, frozenset(), slot=0), 0, [0], 1)]
    seconds: dict[Precision, float] = {}
    dtypes: tuple[tuple[Precision, torch.dtype], ...] = (("fp32", torch.float32), ("bf16", torch.bfloat16))
    for precision, dtype in dtypes:
        runner, _ = make_runner(model, KVCache(small, 1, dtype, torch.device("cpu")), precision, kernels=True)
        times: list[float] = []
        for _ in range(MEASURED_STEPS):
            started = time.perf_counter()
            runner.hidden(token)
            times.append(time.perf_counter() - started)
        seconds[precision] = sorted(times)[MEASURED_STEPS // 4]
    return "bf16" if seconds["bf16"] < seconds["fp32"] * BF16_SPEEDUP else "fp32"


class TorchRunner:
    """The model's own forward pass, one for all chunks of the same length: decoding sequences share one."""

    path = "torch"

    def __init__(self, model: GPT2, cache: KVCache) -> None:
        self._model = model
        self.cache = cache

    @property
    def nbytes(self) -> int:
        """See ModelRunner."""
        return sum(parameter.nbytes for parameter in self._model.parameters())

    @torch.no_grad()
    def hidden(self, chunks: abc.Sequence[Chunk]) -> Tensor:
        """See ModelRunner."""
        by_length: dict[int, list[Chunk]] = defaultdict(list)
        for chunk in sorted(chunks, key=lambda chunk: chunk.sequence.slot):
            by_length[len(chunk.token_ids)].append(chunk)
        by_slot: dict[int, Tensor] = {}
        for length, group in by_length.items():
            view = self.cache.view([c.sequence.slot for c in group], [c.start for c in group], length)
            input_ids = to_device(torch.tensor([chunk.token_ids for chunk in group]), view.positions.device)  # (B, T)
            hidden = self._model(
                input_ids, position_ids=view.positions, cache=view, return_hidden_states=True
            )  # (B, T, C)
            for chunk, states in zip(group, hidden, strict=True):
                by_slot[chunk.sequence.slot] = states[length - chunk.hidden_count :]
        return torch.cat([by_slot[chunk.sequence.slot] for chunk in chunks])

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """See ModelRunner."""
        return self._model.logits(hidden).float()
