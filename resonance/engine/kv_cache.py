"""Keys and values of all slots in one preallocated block, and the view of it that one forward pass writes and reads."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from resonance.engine.memory import Arena
from resonance.model import GPT2Config

BUCKET = 64  # attention reads a multiple of so many positions, so that few different shapes occur


class SlotCache:
    """A slot is room for one sequence of the context's length.

    `keys` and `values` are (slots, n_layer, n_head, context_length, head_dim): a slot's memory is in one piece,
    and the operating system gives pages only for positions that were written.
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
        """The size of the whole block."""
        return self.keys.nbytes + self.values.nbytes

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Give slot `target` the first `length` positions of slot `source`."""
        self.keys[target, :, :, :length] = self.keys[source, :, :, :length]
        self.values[target, :, :, :length] = self.values[source, :, :, :length]

    def view(self, slots: list[int], starts: list[int], time: int) -> "CacheView":
        """What a forward pass needs that adds `time` tokens to each of `slots`, whose caches reach to `starts`."""
        device = self.keys.device
        total = min(-(-(max(starts) + time) // BUCKET) * BUCKET, self.context_length)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(time, device=device)  # (B, T)
        fresh = len(slots) == 1 and starts[0] == 0
        return CacheView(self, slots, positions, time if fresh else total, fresh)


@dataclass(frozen=True, slots=True)
class CacheView:
    """The model's `Cache` for one forward pass over rows of equally many new tokens."""

    cache: SlotCache
    slots: list[int]
    positions: Tensor  # (B, T) int64: where the new tokens stand
    total: int  # how many positions of each slot are read
    fresh: bool  # nothing stands before the new tokens

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, H, T, D) of the new tokens; return those of all positions, (B, H, S, D)."""
        return self._extend(self.cache.keys[:, layer], key), self._extend(self.cache.values[:, layer], value)

    def mask(self, time: int) -> Tensor | None:
        """(B, 1, T, S): a token attends to the positions up to its own."""
        if self.fresh:
            return None
        return (torch.arange(self.total, device=self.positions.device) <= self.positions[..., None]).unsqueeze(1)

    def _extend(self, stored: Tensor, new: Tensor) -> Tensor:
        slots = torch.tensor(self.slots, device=stored.device)
        stored[slots[:, None], :, self.positions] = new.transpose(1, 2).to(stored.dtype)  # (B, T, H, D)
        first, count = self.slots[0], len(self.slots)
        if self.slots == list(range(first, first + count)):
            return stored[first : first + count, :, : self.total]  # neighbours: no copy
        return stored[slots, :, : self.total]
