"""The model under evaluation, with its chat template and engine."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import torch

from resonance.chat_template import ChatTemplate, Window
from resonance.checkpoint import Checkpoint
from resonance.engine import Engine
from resonance.metadata import Metadata
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer

UNTRAINED = "untrained"


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A model under evaluation; `label` is its column header in tables.

    `checkpoint` is what it was loaded from with this `dtype` and `quantize`; None for a model in training.
    """

    label: str
    engine: Engine
    template: ChatTemplate
    tokenizer: Tokenizer
    window: Window
    batch_size: int
    checkpoint: Checkpoint | None = None
    dtype: str = "fp32"
    quantize: str | None = None

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""
        return self.window.context_length

    @classmethod
    def load(cls, label: str, checkpoint: Checkpoint, *, batch_size: int, dtype: str, quantize: str | None) -> Self:
        """Load a checkpoint; `dtype` and `quantize` configure the engine."""
        return cls(
            label=label,
            engine=Engine.from_checkpoint(checkpoint, dtype=dtype, quantize=quantize, max_batch_size=batch_size),
            template=checkpoint.template(),
            tokenizer=checkpoint.load_tokenizer(),
            window=checkpoint.window,
            batch_size=batch_size,
            checkpoint=checkpoint,
            dtype=dtype,
            quantize=quantize,
        )


@contextmanager
def untrained(trained: Checkpoint) -> Generator[tuple[str, Checkpoint]]:
    """A label and a temporary checkpoint of the weights that training started from.

    These are the base weights, or without any random ones drawn from the run's seed. Raises WeightsError when the base
    weights no longer exist.
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
