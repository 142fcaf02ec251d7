"""The KV cache: preallocated keys and values of all slots, and the view of them that a forward pass uses."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from resonance.engine.memory import Arena
from resonance.model_config import GPT2Config

BUCKET = 64  # attention reads a multiple of this many positions, so that few different shapes occur


class KVCache:
    """Keys and values by slot; a slot holds one sequence of up to `context_length` tokens.

    `keys` and `values` are (slots, n_layer, n_head, context_length, head_dim): a slot's memory is contiguous,
    and the operating system allocates pages only for positions that were written.
    """

    def __init__(self, config: GPT2Config, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (slots, config.n_layer, config.n_head, config.context_length, config.head_dim)
        if device.type == "cpu":
            arena = Arena(2 * math.prod(shape) * dtype.itemsize)
            self.keys, self.values = arena.empty(shape, dtype), arena.empty(shape, dtype)
        else:
            self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.context_length = config.context_length

    @property
    def nbytes(self) -> int:
        """The size of the whole cache."""
        return self.keys.nbytes + self.values.nbytes

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` to slot `target`."""
        self.keys[target, :, :, :length] = self.keys[source, :, :, :length]
        self.values[target, :, :, :length] = self.values[source, :, :, :length]

    def view(self, slots: list[int], starts: list[int], time: int) -> "CacheView":
        """The view for a forward pass over `time` new tokens of each of `slots`, at positions from `starts` on."""
        device = self.keys.device
        total = min(-(-(max(starts) + time) // BUCKET) * BUCKET, self.context_length)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(time, device=device)  # (B, T)
        is_prefill = len(slots) == 1 and starts[0] == 0
        return CacheView(self, slots, positions, time if is_prefill else total, is_prefill)


@dataclass(frozen=True, slots=True)
class CacheView:
    """The model's `Cache` for one forward pass over equally many new tokens of each sequence."""

    cache: KVCache
    slots: list[int]
    positions: Tensor  # (B, T) int64: of the new tokens
    total: int  # positions of each slot that attention reads
    is_prefill: bool  # one sequence with nothing cached before the new tokens

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, H, T, D) of the new tokens; return those of all positions, (B, H, S, D)."""
        return self._extend(self.cache.keys[:, layer], key), self._extend(self.cache.values[:, layer], value)

    def mask(self, time: int) -> Tensor | None:
        """(B, 1, T, S): a token attends to the positions up to its own."""
        if self.is_prefill:
            return None
        return (torch.arange(self.total, device=self.positions.device) <= self.positions[..., None]).unsqueeze(1)

    def _extend(self, stored: Tensor, new: Tensor) -> Tensor:
        slots = torch.tensor(self.slots, device=stored.device)
        stored[slots[:, None], :, self.positions] = new.transpose(1, 2).to(stored.dtype)  # (B, T, H, D)
        first, count = self.slots[0], len(self.slots)
        if self.slots == list(range(first, first + count)):
            return stored[first : first + count, :, : self.total]  # adjacent slots: no copy
        return stored[slots, :, : self.total]
