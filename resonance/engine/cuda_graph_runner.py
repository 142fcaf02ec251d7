"""Decoding on a GPU: a step's many small launches are recorded once and played back as one.

For that a step must look the same each time, so its tokens, positions and slots lie in tensors that stay where they
are, and attention reads the whole context under a mask. Prompts go the ordinary way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from resonance.engine.kv_cache import SlotCache
from resonance.engine.model_runner import TorchRunner
from resonance.engine.sequence import Chunk
from resonance.model import GPT2

WARM_UPS = 3  # steps before recording, so that libraries have made their choices and taken their memory


class GraphRunner(TorchRunner):
    """A TorchRunner whose decode steps are recorded, one recording for each number of texts.

    Without CUDA the same steps are computed as they come.
    """

    path = "torch with CUDA graphs"

    def __init__(self, model: GPT2, cache: SlotCache) -> None:
        super().__init__(model, cache)
        self._steps: dict[int, DecodeStep] = {}  # by how many texts they take

    @torch.no_grad()
    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """See Runner."""
        if any(len(chunk.token_ids) > 1 or not chunk.wanted for chunk in chunks):
            return super().hidden(chunks)
        if len(chunks) not in self._steps:
            self._steps[len(chunks)] = DecodeStep(self._model, self._cache, len(chunks))
        return self._steps[len(chunks)](chunks)


class DecodeStep:
    """One new token for each of so many texts, in tensors that stay where they are."""

    def __init__(self, model: GPT2, cache: SlotCache, texts: int) -> None:
        device = cache.keys.device
        self._model = model
        self._inputs = torch.zeros(3, texts, dtype=torch.long, device=device)  # tokens, positions, slots
        self._view = StaticView(cache, self._inputs[1], self._inputs[2])
        self._graph = torch.cuda.CUDAGraph() if device.type == "cuda" and torch.cuda.is_available() else None
        self._hidden: Tensor | None = None  # what the recording leaves its result in

    def __call__(self, chunks: Sequence[Chunk]) -> Tensor:
        """The new tokens' hidden states, (texts, n_embd)."""
        told = [(chunk.token_ids[0], chunk.start, chunk.text.slot) for chunk in chunks]
        self._inputs.copy_(torch.tensor(told).T)
        if self._graph is None:
            return self._forward()
        if self._hidden is None:
            self._hidden = self._record(self._graph)
        self._graph.replay()
        return self._hidden.clone()

    def _forward(self) -> Tensor:
        tokens, positions, _ = self._inputs[..., None]  # (texts, 1) each
        return self._model(tokens, position_ids=positions, cache=self._view, return_hidden_states=True)[:, 0]

    def _record(self, graph: torch.cuda.CUDAGraph) -> Tensor:
        # Computing the same step several times over leaves the same keys and values.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._forward()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            return self._forward()


@dataclass(frozen=True, slots=True)
class StaticView:
    """The model's `Cache` for a step of one token a text."""

    cache: SlotCache
    positions: Tensor  # (texts,) where the new tokens stand
    slots: Tensor  # (texts,)
    _places: Tensor = field(init=False)  # (context,) 0, 1, ...

    def __post_init__(self) -> None:
        places = torch.arange(self.cache.context_length, device=self.positions.device)
        object.__setattr__(self, "_places", places)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, H, 1, D) of the new tokens; return those of the whole context."""
        return self._extend(self.cache.keys[:, layer], key), self._extend(self.cache.values[:, layer], value)

    def mask(self, time: int) -> Tensor:
        """(B, 1, 1, context): a token attends to the positions up to its own."""
        return (self._places <= self.positions[:, None])[:, None, None]

    def _extend(self, stored: Tensor, new: Tensor) -> Tensor:
        stored[self.slots, :, self.positions] = new[:, :, 0].to(stored.dtype)  # (B, H, D)
        return stored[self.slots]  # (B, H, context, D)
