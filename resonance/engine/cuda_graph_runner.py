"""Decoding on a GPU with CUDA graphs: a step's many small kernel launches are captured once and replayed as one.

A captured step has fixed shapes and addresses: its tokens, positions and slots are in static tensors, and attention
reads the whole context under a mask. Steps with prompts run without a graph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from resonance.engine.kv_cache import KVCache
from resonance.engine.model_runner import TorchRunner
from resonance.engine.sequence import Chunk
from resonance.model import GPT2

WARMUP_STEPS = 3  # before the capture, in which libraries choose algorithms and allocate workspaces


class CudaGraphRunner(TorchRunner):
    """A TorchRunner that replays decode steps from CUDA graphs, one graph for each number of sequences.

    Without CUDA the same steps run without a graph.
    """

    path = "torch with CUDA graphs"

    def __init__(self, model: GPT2, cache: KVCache) -> None:
        super().__init__(model, cache)
        self._steps: dict[int, DecodeStep] = {}  # by number of sequences

    @torch.no_grad()
    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """See ModelRunner."""
        if any(len(chunk.token_ids) > 1 or not chunk.hidden_count for chunk in chunks):
            return super().hidden(chunks)
        if len(chunks) not in self._steps:
            self._steps[len(chunks)] = DecodeStep(self._model, self._cache, len(chunks))
        return self._steps[len(chunks)](chunks)


class DecodeStep:
    """A step of one new token for each of `batch_size` sequences, in static tensors."""

    def __init__(self, model: GPT2, cache: KVCache, batch_size: int) -> None:
        device = cache.keys.device
        self._model = model
        self._inputs = torch.zeros(3, batch_size, dtype=torch.long, device=device)  # tokens, positions, slots
        self._view = StaticCacheView(cache, self._inputs[1], self._inputs[2])
        self._graph = torch.cuda.CUDAGraph() if device.type == "cuda" and torch.cuda.is_available() else None
        self._hidden: Tensor | None = None  # the graph's output

    def __call__(self, chunks: Sequence[Chunk]) -> Tensor:
        """The new tokens' hidden states, (batch_size, n_embd)."""
        inputs = [(chunk.token_ids[0], chunk.start, chunk.sequence.slot) for chunk in chunks]
        self._inputs.copy_(torch.tensor(inputs).T)
        if self._graph is None:
            return self._forward()
        if self._hidden is None:
            self._hidden = self._capture(self._graph)
        self._graph.replay()
        return self._hidden.clone()

    def _forward(self) -> Tensor:
        tokens, positions, _ = self._inputs[..., None]  # (batch_size, 1) each
        return self._model(tokens, position_ids=positions, cache=self._view, return_hidden_states=True)[:, 0]

    def _capture(self, graph: torch.cuda.CUDAGraph) -> Tensor:
        # Repeating a step stores the same keys and values again.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP_STEPS):
                self._forward()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            return self._forward()


class StaticCacheView:
    """The model's `Cache` for a step of one token a sequence, with static shapes; positions and slots (batch_size,)."""

    def __init__(self, cache: KVCache, positions: Tensor, slots: Tensor) -> None:
        self.cache, self.positions, self.slots = cache, positions, slots
        self._context = torch.arange(cache.context_length, device=positions.device)  # (context,)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, H, 1, D) of the new tokens; return those of the whole context."""
        return self._extend(self.cache.keys[:, layer], key), self._extend(self.cache.values[:, layer], value)

    def mask(self, time: int) -> Tensor:
        """(B, 1, 1, context): a token attends to the positions up to its own."""
        return (self._context <= self.positions[:, None])[:, None, None]

    def _extend(self, stored: Tensor, new: Tensor) -> Tensor:
        stored[self.slots, :, self.positions] = new[:, :, 0].to(stored.dtype)  # (B, H, D)
        return stored[self.slots]  # (B, H, context, D)
