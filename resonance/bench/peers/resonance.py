"""Ourselves."""

from collections.abc import Sequence
from pathlib import Path

from resonance.checkpoint import Checkpoint
from resonance.engine import Engine, SamplingParams
from resonance.engine.quantize import Precision


class Resonance:
    """The engine, without a tokenizer as the others are."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """See Program."""
        self.engine.generate(prompts, SamplingParams(max_new_tokens=new_tokens, temperature=0, ignore_eos=True))


def load(folder: Path, precision: Precision, batch: int, threads: int) -> Resonance:
    """See peers.load."""
    return Resonance(Engine(Checkpoint.open(folder).load_model(), max_batch_size=batch, precision=precision))
