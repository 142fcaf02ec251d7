"""Decoding on a GPU: one forward pass for all chunks of a step, and CUDA graphs for steps of one token each.

Tokens of all sequences stand in one row, without padding; variable-length attention reads each sequence's keys and
values where they are in the cache, and only as far as they are written. A decoding step launches hundreds of small
kernels, which are captured once and replayed as one: its inputs are in tensors that stay where they are. A graph serves
a fixed number of sequences, so steps are filled up with rows that write to a spare slot.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resonance.engine.kv_cache import KVCache
from resonance.engine.model_runner import TorchRunner
from resonance.engine.sequence import Chunk
from resonance.model import GPT2
from resonance.pinned_memory import pinned, to_device

WARMUP_STEPS = 3  # before the capture, in which libraries choose algorithms and allocate workspaces
ENDLESS, NONE_AFTER = -1, 0  # keys before and after a token that it attends to


class Lengths(NamedTuple):
    """Where the sequences of a step are: in the row of tokens, and in a layer's rows of the cache."""

    query_starts: Tensor  # (sequences + 1,) int32: the last is the number of tokens
    key_starts: Tensor  # (sequences + 1,) int32: the last is not read
    keys: Tensor  # (sequences,) int32: how many are written, the new ones included
    most_queries: int
    most_keys: int


# query (tokens, H, D); keys and values (slots * context, H, D); the result is like query
Attention = Callable[[Tensor, Tensor, Tensor, Lengths], Tensor]


def flash_attention(query: Tensor, keys: Tensor, values: Tensor, lengths: Lengths) -> Tensor:
    """FlashAttention of torch, in bf16 or fp16 on NVIDIA's Ampere and later; see Attention."""
    # It loads torch's compiler, which takes as long as all else that an engine loads, and a CPU never needs it.
    from torch.nn.attention.varlen import varlen_attn

    output = varlen_attn(
        query,
        keys,
        values,
        lengths.query_starts,
        lengths.key_starts,
        lengths.most_queries,
        lengths.most_keys,
        window_size=(ENDLESS, NONE_AFTER),
        seqused_k=lengths.keys,
    )
    assert isinstance(output, Tensor)
    return output


def has_flash_attention(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether `flash_attention` can compute on this device and in this type."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16) or head_dim % 8 or head_dim > 256:
        return False
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


class CudaGraphRunner(TorchRunner):
    """Computes all chunks of a step in one row of tokens, and replays steps that only decode from CUDA graphs.

    The cache's last slot is spare. Without CUDA the same steps run without a graph.
    """

    path = "torch with CUDA graphs"

    def __init__(self, model: GPT2, cache: KVCache, attention: Attention = flash_attention) -> None:
        super().__init__(model, cache)
        self._attention = attention
        captures = cache.keys.device.type == "cuda" and torch.cuda.is_available()
        pool = torch.cuda.graph_pool_handle() if captures else None
        self._steps: dict[int, DecodeStep] = {}  # by number of sequences
        for size in sorted(batch_sizes(cache.slots - 1), reverse=True):  # the largest first: the others use its memory
            self._steps[size] = DecodeStep(model, cache, attention, size)
            if pool is not None:
                self._steps[size].capture(pool)

    @torch.no_grad()
    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """See ModelRunner."""
        if all(len(chunk.token_ids) == 1 == chunk.hidden_count for chunk in chunks):
            return self._steps[min(size for size in self._steps if size >= len(chunks))](chunks)
        context = self.cache.context_length
        lengths = [len(chunk.token_ids) for chunk in chunks]
        starts = [0, *accumulate(lengths)]
        positions = [position for chunk, n in zip(chunks, lengths, strict=True) for position in _range(chunk.start, n)]
        first_rows = [chunk.sequence.slot * context for chunk in chunks]
        keys = [chunk.start + n for chunk, n in zip(chunks, lengths, strict=True)]
        tokens, positions, rows, query_starts, key_starts, keys_written, requested = _tensors(
            [
                [token for chunk in chunks for token in chunk.token_ids],
                positions,
                [first + position for first, chunk, n in zip(first_rows, chunks, lengths, strict=True)
                 for position in _range(chunk.start, n)],
                starts,
                [*first_rows, 0],
                keys,
                [token for chunk, end in zip(chunks, starts[1:], strict=True)
                 for token in _range(end - chunk.hidden_count, chunk.hidden_count)],
            ],
            self.cache.keys.device,
        )  # fmt: skip
        where = Lengths(query_starts.int(), key_starts.int(), keys_written.int(), max(lengths), max(keys))
        view = FlatCacheView(self.cache, self._attention, rows, where)
        hidden = self._model(tokens[None], position_ids=positions[None], cache=view, return_hidden_states=True)
        return hidden[0, requested]  # (requested, n_embd)


class DecodeStep:
    """A step of one new token for each of up to `size` sequences, in static tensors."""

    def __init__(self, model: GPT2, cache: KVCache, attention: Attention, size: int) -> None:
        device = cache.keys.device
        self._model, self._size = model, size
        self._context, self._spare = cache.context_length, cache.slots - 1
        self._inputs = torch.zeros(5, size, dtype=torch.long, device=device)
        self._inputs.copy_(self._packed([]))
        _, _, rows, key_starts, keys = self._inputs
        query_starts = torch.arange(size + 1, dtype=torch.int32, device=device)

        def forward() -> Tensor:
            where = Lengths(
                query_starts, torch.cat([key_starts, key_starts[:1]]).int(), keys.int(), 1, cache.context_length
            )
            tokens, positions = self._inputs[:2, None]  # (1, size) each
            view = FlatCacheView(cache, attention, rows, where)
            return model(tokens, position_ids=positions, cache=view, return_hidden_states=True)[0]

        self._forward = forward
        self._graph: torch.cuda.CUDAGraph | None = None
        self._hidden = torch.empty(0)  # the graph's output

    def __call__(self, chunks: Sequence[Chunk]) -> Tensor:
        """The new tokens' hidden states, (chunks, n_embd)."""
        self._inputs.copy_(pinned(self._packed(chunks), self._inputs.device), non_blocking=True)
        if self._graph is None:
            return self._forward()[: len(chunks)]
        self._graph.replay()
        return self._hidden[: len(chunks)].clone()

    def capture(self, pool: Any) -> None:
        """Capture the graph, whose memory is `pool`'s; other threads may use the GPU meanwhile."""
        with torch.no_grad(), torch.cuda.device(self._inputs.device):  # a thread's current one is the first
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARMUP_STEPS):
                    self._forward()
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._hidden = self._forward()

    def _packed(self, chunks: Sequence[Chunk]) -> Tensor:
        # (5, size): tokens, positions, rows of the cache, the sequences' first rows, and how many keys they have
        rows = [(chunk.token_ids[0], chunk.start, chunk.sequence.slot) for chunk in chunks]
        rows += [(0, 0, self._spare)] * (self._size - len(rows))
        token, position, slot = torch.tensor(rows).T
        first = slot * self._context
        return torch.stack([token, position, first + position, first, position + 1])


class FlatCacheView:
    """The model's `Cache` for one row of tokens of several sequences, which belong in `rows` of the cache's layers."""

    def __init__(self, cache: KVCache, attention: Attention, rows: Tensor, lengths: Lengths) -> None:
        self._cache, self._attention, self._rows, self._lengths = cache, attention, rows, lengths

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See Cache; the batch is 1."""
        keys, values = self._cache.rows(layer)  # (slots * context, H, D) each
        keys[self._rows], values[self._rows] = (new[0].transpose(0, 1).to(keys.dtype) for new in (key, value))
        y = self._attention(query[0].transpose(0, 1), keys, values, self._lengths)  # (tokens, H, D)
        return y.transpose(0, 1)[None]


def batch_sizes(largest: int) -> list[int]:
    """The numbers of sequences that graphs are captured for: powers of two, and the largest."""
    return sorted({min(1 << power, largest) for power in range(largest.bit_length() + 1)})


def _tensors(lists: Sequence[Sequence[int]], device: torch.device) -> Sequence[Tensor]:
    """Lists of integers as int64 tensors on the device, by one transfer."""
    joined = torch.from_numpy(np.concatenate([np.asarray(numbers, dtype=np.int64) for numbers in lists]))
    return to_device(joined, device).split([len(numbers) for numbers in lists])


def _range(start: int, count: int) -> range:
    return range(start, start + count)
