"""Computes one step's chunks: tokens in, hidden states and logits out, keys and values left in the cache."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from resonance.engine.kernels import KernelsMissing
from resonance.engine.kernels.bindings import KernelRunner
from resonance.engine.kv_cache import SlotCache
from resonance.engine.quantization import Precision, rounded
from resonance.engine.sampling_params import SamplingParams
from resonance.engine.sequence import Chunk, Text
from resonance.model import GPT2, GPT2Config

MEASURED_STEPS = 20
WORTH_ROUNDING = 0.8  # bf16 must take less than this share of fp32's time


class Runner(Protocol):
    """What the engine asks of whatever computes the model."""

    path: str  # what it is, for statistics

    @property
    def nbytes(self) -> int:
        """The size of the weights it holds."""
        ...

    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute all chunks; the wanted tokens' hidden states after the last LayerNorm, (wanted, n_embd)."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: (rows, n_embd) -> (rows, vocab) fp32, the caller's to change."""
        ...


def make_runner(
    model: GPT2, cache: SlotCache, precision: Precision, *, kernels: bool
) -> tuple[Runner, tuple[str, ...]]:
    """The fastest runner that this machine can have, and notes on what it could not."""
    note = "the C++ kernels were switched off"
    if kernels:
        try:
            return KernelRunner(model, cache, precision), ()
        except KernelsMissing as reason:
            note = str(reason)
    return TorchRunner(rounded(model, precision), cache), (f"Computed by torch: {note}.",)


def fastest(config: GPT2Config) -> Precision:
    """Whether fp32 or bf16 computes one token faster here, measured on two layers of the model's width."""
    torch_state = torch.get_rng_state()
    small = replace(config, n_layer=2, vocab_size=64, context_length=64)
    model = GPT2(small).eval()
    torch.set_rng_state(torch_state)
    token = [Chunk(Text("measured", [0], SamplingParams(), 0, frozenset(), slot=0), 0, [0], 1)]
    seconds: dict[Precision, float] = {}
    choices: tuple[tuple[Precision, torch.dtype], ...] = (("fp32", torch.float32), ("bf16", torch.bfloat16))
    for precision, dtype in choices:
        runner, _ = make_runner(model, SlotCache(small, 1, dtype, torch.device("cpu")), precision, kernels=True)
        times: list[float] = []
        for _ in range(MEASURED_STEPS):
            started = time.perf_counter()
            runner.hidden(token)
            times.append(time.perf_counter() - started)
        seconds[precision] = sorted(times)[MEASURED_STEPS // 4]
    return "bf16" if seconds["bf16"] < seconds["fp32"] * WORTH_ROUNDING else "fp32"


class TorchRunner:
    """The model's own forward pass: one for the chunks of each length, so that decoding sequences share one."""

    path = "torch"

    def __init__(self, model: GPT2, cache: SlotCache) -> None:
        self._model = model
        self._cache = cache

    @property
    def nbytes(self) -> int:
        """See Runner."""
        return sum(parameter.nbytes for parameter in self._model.parameters())

    @torch.no_grad()
    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """See Runner."""
        groups: dict[int, list[Chunk]] = defaultdict(list)
        for chunk in sorted(chunks, key=lambda chunk: chunk.text.slot):
            groups[len(chunk.token_ids)].append(chunk)
        wanted: dict[int, Tensor] = {}  # by slot
        for length, group in groups.items():
            view = self._cache.view([c.text.slot for c in group], [c.start for c in group], length)
            input_ids = torch.tensor([chunk.token_ids for chunk in group], device=view.positions.device)  # (B, T)
            hidden = self._model(
                input_ids, position_ids=view.positions, cache=view, return_hidden_states=True
            )  # (B, T, C)
            for chunk, states in zip(group, hidden, strict=True):
                wanted[chunk.text.slot] = states[length - chunk.wanted :]
        return torch.cat([wanted[chunk.text.slot] for chunk in chunks])

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """See Runner."""
        return self._model.logits(hidden).float()
