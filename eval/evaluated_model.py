"""What is put to the test: a model with the prompt form and the engine it answers with."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from resonance.chat_template import ChatTemplate, Window
from resonance.checkpoint import Checkpoint
from resonance.engine import Engine
from resonance.metadata import Metadata
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer

UNTRAINED = "untrained"


@dataclass(frozen=True, slots=True)
class Subject:
    """One model under evaluation; `label` heads its column in tables."""

    label: str
    engine: Engine
    template: ChatTemplate
    tokenizer: Tokenizer
    window: Window
    batch_size: int

    @property
    def context_length(self) -> int:
        """How many tokens prompt and answer have in all."""
        return self.window.context_length

    @classmethod
    def of(cls, label: str, checkpoint: Checkpoint, *, batch_size: int, dtype: str, quantize: str | None) -> "Subject":
        """Load a checkpoint; `dtype` and `quantize` are the engine's."""
        return cls(
            label=label,
            engine=Engine.from_checkpoint(checkpoint, dtype=dtype, quantize=quantize, max_batch_size=batch_size),
            template=checkpoint.template(),
            tokenizer=checkpoint.load_tokenizer(),
            window=checkpoint.window,
            batch_size=batch_size,
        )


@contextmanager
def untrained(trained: Checkpoint) -> Generator[tuple[str, Checkpoint]]:
    """What a checkpoint was before its training, with a label: its base weights, else fresh random ones.

    The random ones come from the run's seed. It stands in a temporary folder, gone afterwards, so that it is
    loaded like any other. Raises WeightsError when the base weights are no longer there.
    """
    base = trained.metadata.base
    tokenizer = trained.load_tokenizer()
    with torch.random.fork_rng(devices=()), TemporaryDirectory(prefix="resonance-untrained-") as folder:
        torch.manual_seed(trained.metadata.seed or 0)
        model = GPT2(trained.config) if base is None else GPT2.from_pretrained(base)
        model.resize_vocab(trained.config.vocab_size)
        metadata = Metadata(template=trained.metadata.template, base=base, seed=trained.metadata.seed)
        label = UNTRAINED if base is None else f"base ({Path(base).name})"
        yield label, Checkpoint.save(folder, model, tokenizer, metadata)
