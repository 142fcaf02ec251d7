"""Hugging Face transformers: generation in torch's eager mode, and fine-tuning with batches padded to the longest."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers

from resonance.bench.peers import Unsupported

if TYPE_CHECKING:
    from resonance.chat_template import Rendered
    from resonance.engine.quantization import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
IGNORE_INDEX = -100
LEARNING_RATE, MAX_GRAD_NORM = 5e-5, 1.0


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


class Trainer:
    """GPT2LMHeadModel, trained with the defaults of transformers' Trainer and without dropout."""

    def __init__(self, model: transformers.GPT2LMHeadModel, examples: "Sequence[Rendered]", *, bf16: bool) -> None:
        self._model, self._examples, self._bf16 = model.train(), examples, bf16
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
        self._position = 0

    def steps(self, count: int, batch: int) -> Iterator[float]:
        """Train on `count` batches of examples; yield the tokens a second of each, padding not counted."""
        for _ in range(count):
            examples = [self._examples[(self._position + i) % len(self._examples)] for i in range(batch)]
            self._position += batch
            started_at = time.perf_counter()
            tokens = self._step(examples)
            yield tokens / (time.perf_counter() - started_at)

    def _step(self, examples: "Sequence[Rendered]") -> int:
        longest = max(len(example.input_ids) for example in examples)
        ids = torch.zeros(len(examples), longest, dtype=torch.long)
        labels = torch.full_like(ids, IGNORE_INDEX)
        attention_mask = torch.zeros_like(ids)
        for row, example in enumerate(examples):
            length = len(example.input_ids)
            ids[row, :length] = torch.tensor(example.input_ids)
            labels[row, :length] = ids[row, :length].masked_fill(~torch.tensor(example.loss_mask), IGNORE_INDEX)
            attention_mask[row, :length] = 1
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            loss = self._model(input_ids=ids, attention_mask=attention_mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), MAX_GRAD_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return int(attention_mask.sum())


def prepare(folder: Path, precision: "Precision") -> None:
    """See Peer: transformers reads the checkpoint as it is."""
    if precision not in DTYPES:
        raise Unsupported(f"no {precision} on a CPU")


def load(folder: Path, precision: "Precision", batch: int, threads: int) -> Transformers:
    """See Peer."""
    torch.set_num_threads(threads)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=DTYPES[precision])
    return Transformers(model.eval())


def load_trainer(folder: Path, precision: "Precision", examples: "Sequence[Rendered]", threads: int) -> Trainer:
    """A trainer of the checkpoint's model."""
    torch.set_num_threads(threads)
    model = transformers.GPT2LMHeadModel.from_pretrained(
        folder, dtype=torch.float32, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return Trainer(model, examples, bf16=precision == "bf16")
