"""Hugging Face transformers: generation in torch's eager mode."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers

from resonance.bench.peers import Unsupported

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Transformers:
    """GPT2LMHeadModel."""

    def __init__(self, model: transformers.GPT2LMHeadModel) -> None:
        self._model = model
        self.vocab_size = model.config.vocab_size
        self.needed_bytes = None

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """See Program."""
        ids = torch.tensor(prompts)
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
        )


def prepare(folder: Path, precision: "Precision") -> None:
    """See Peer: transformers reads the checkpoint as it is."""
    if precision not in DTYPES:
        raise Unsupported(f"no {precision} on a CPU")


def load(folder: Path, precision: "Precision", batch: int, threads: int) -> Transformers:
    """See Peer."""
    torch.set_num_threads(threads)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=DTYPES[precision])
    return Transformers(model.eval())
