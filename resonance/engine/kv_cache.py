"""The KV cache: preallocated keys and values of all slots, and the view of them that a forward pass uses."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.memory import Arena
from resonance.model_config import GPT2Config
from resonance.pinned_memory import tensor_on

BUCKET = 64  # attention reads a multiple of this many positions, so that few different shapes occur


class KVCache:
    """Keys and values by slot; a slot holds one sequence of up to `context_length` tokens.

    `keys` and `values` are (slots, n_layer, n_head, context_length, head_dim). On a CPU a slot's memory is contiguous,
    and the operating system allocates pages only for positions that were written. `by_layer`, which is elsewhere's
    way, a layer's memory is contiguous: see `rows`.
    """

    def __init__(
        self, config: GPT2Config, slots: int, dtype: torch.dtype, device: torch.device, *, by_layer: bool | None = None
    ) -> None:
        self.slots, self.context_length = slots, config.context_length
        if not (device.type != "cpu" if by_layer is None else by_layer):
            shape = (slots, config.n_layer, config.n_head, config.context_length, config.head_dim)
            arena = Arena(2 * math.prod(shape) * dtype.itemsize)
            self.keys, self.values = arena.empty(shape, dtype), arena.empty(shape, dtype)
        else:
            shape = (config.n_layer, slots, config.context_length, config.n_head, config.head_dim)
            self.keys, self.values = (
                torch.zeros(shape, dtype=dtype, device=device).permute(1, 0, 3, 2, 4) for _ in range(2)
            )

    @property
    def nbytes(self) -> int:
        """The size of the whole cache."""
        return self.keys.nbytes + self.values.nbytes

    def rows(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, (slots * context_length, n_head, head_dim); no copy where it is `by_layer`."""
        keys, values = (stored[:, layer].transpose(1, 2).flatten(0, 1) for stored in (self.keys, self.values))
        return keys, values

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` to slot `target`."""
        self.keys[target, :, :, :length] = self.keys[source, :, :, :length]
        self.values[target, :, :, :length] = self.values[source, :, :, :length]

    def view(self, slots: list[int], starts: list[int], time: int) -> "CacheView":
        """The view for a forward pass over `time` new tokens of each of `slots`, at positions from `starts` on."""
        return CacheView(self, slots, starts, time)


class CacheView:
    """The model's `Cache` for one forward pass over equally many new tokens of each sequence."""

    def __init__(self, cache: KVCache, slots: list[int], starts: list[int], time: int) -> None:
        device = cache.keys.device
        self._cache = cache
        self._slots = tensor_on(device, slots)
        first, count = slots[0], len(slots)
        # Adjacent slots are not copied.
        self._adjacent = slice(first, first + count) if slots == list(range(first, first + count)) else None
        self.positions = tensor_on(device, starts)[:, None] + torch.arange(time, device=device)  # (B, T)
        if count == 1 and starts[0] == 0:  # a prompt, with nothing before it
            self._total, self._mask = time, None
        else:
            self._total = min(-(-(max(starts) + time) // BUCKET) * BUCKET, cache.context_length)
            keys = torch.arange(self._total, device=device)
            self._mask = (keys <= self.positions[..., None]).unsqueeze(1)  # (B, 1, T, total)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See Cache."""
        keys, values = self._extend(self._cache.keys[:, layer], key), self._extend(self._cache.values[:, layer], value)
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=self._mask, is_causal=self._mask is None
        )  # (B, H, T, D)

    def _extend(self, stored: Tensor, new: Tensor) -> Tensor:
        # Stores (B, H, T, D) at the new tokens' positions; returns what they attend to, (B, H, total, D).
        stored[self._slots[:, None], :, self.positions] = new.transpose(1, 2).to(stored.dtype)  # (B, T, H, D)
        return stored[self._slots if self._adjacent is None else self._adjacent, :, : self._total]
