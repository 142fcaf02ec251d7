"""Resonance's engine."""

from collections.abc import Sequence
from pathlib import Path

import torch

from resonance.checkpoint import Checkpoint
from resonance.engine import Engine, SamplingParams
from resonance.engine.quantization import Precision


class Resonance:
    """The engine without a tokenizer, as the other programs run."""

    def __init__(self, folder: Path, precision: Precision, batch: int) -> None:
        self._folder, self._precision, self._batch = folder, precision, batch
        self.engine = self.new_engine()
        self.vocab_size = self.engine.config.vocab_size
        stats = self.engine.stats()
        self.needed_bytes = stats.weight_bytes + stats.cache_bytes

    def new_engine(self, *, prompt_lookup: bool = False) -> Engine:
        """An engine with the same weights."""
        model = Checkpoint.open(self._folder).load_model()
        return Engine(model, max_batch_size=self._batch, precision=self._precision, prompt_lookup=prompt_lookup)

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """See Program."""
        self.engine.generate(prompts, SamplingParams(max_new_tokens=new_tokens, temperature=0, ignore_eos=True))


def prepare(folder: Path, precision: Precision) -> None:
    """See Peer: the engine reads the checkpoint as it is."""


def load(folder: Path, precision: Precision, batch: int, threads: int) -> Resonance:
    """See Peer."""
    torch.set_num_threads(threads)
    return Resonance(folder, precision, batch)
