"""Computes one step's chunks: tokens in, hidden states and logits out, keys and values left in the cache."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from resonance.engine.cache import SlotCache
from resonance.engine.text import Chunk
from resonance.model import GPT2


class Runner(Protocol):
    """What the engine asks of whatever computes the model."""

    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute all chunks; the wanted tokens' hidden states after the last LayerNorm, (wanted, n_embd)."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: (rows, n_embd) -> (rows, vocab) fp32, the caller's to change."""
        ...


class TorchRunner:
    """The model's own forward pass: one for the chunks of each length, so that decoding sequences share one."""

    def __init__(self, model: GPT2, cache: SlotCache) -> None:
        self._model = model
        self._cache = cache

    @torch.no_grad()
    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """See Runner."""
        groups: dict[int, list[Chunk]] = defaultdict(list)
        for chunk in sorted(chunks, key=lambda chunk: chunk.text.slot):
            groups[len(chunk.token_ids)].append(chunk)
        wanted: dict[int, Tensor] = {}  # by slot
        for time, group in groups.items():
            view = self._cache.view([c.text.slot for c in group], [c.start for c in group], time)
            input_ids = torch.tensor([chunk.token_ids for chunk in group], device=view.positions.device)  # (B, T)
            hidden = self._model.hidden(input_ids, position_ids=view.positions, cache=view)  # (B, T, C)
            for chunk, states in zip(group, hidden, strict=True):
                wanted[chunk.text.slot] = states[time - chunk.wanted :]
        return torch.cat([wanted[chunk.text.slot] for chunk in chunks])

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """See Runner."""
        return self._model.logits(hidden).float()
