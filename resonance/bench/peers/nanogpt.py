"""nanoGPT's model, compiled, in the loop of its own `train.py`: `programs.nanogpt` names a checkout of it.

Its weights are random and its vocabulary is rounded up to 50,304, as it trains from scratch.
"""

import importlib.util
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from resonance.bench.peers import Unsupported, place

if TYPE_CHECKING:
    from resonance.bench.workloads.examples import Example
    from resonance.engine.quantization import Precision

LEARNING_RATE, BETAS, WEIGHT_DECAY, MAX_GRAD_NORM = 6e-4, (0.9, 0.95), 0.1, 1.0


class Trainer:
    """The model and its optimiser."""

    def __init__(self, model: Any, *, bf16: bool) -> None:
        self._optimizer = model.configure_optimizers(WEIGHT_DECAY, LEARNING_RATE, BETAS, "cpu")
        self._parameters = list(model.parameters())
        self._model, self._bf16 = torch.compile(model), bf16

    def steps(self, examples: "Sequence[Example]", count: int, batch: int) -> Iterator[float]:
        """Train on `count` batches of rows of equal length; yield the tokens a second of each."""
        rows = torch.tensor([example.input_ids for example in examples])
        for step in range(count):
            x = rows[torch.arange(step * batch, (step + 1) * batch) % len(rows)]
            started_at = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
                _, loss = self._model(x, x.roll(-1, 1))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._parameters, MAX_GRAD_NORM)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            yield x.numel() / (time.perf_counter() - started_at)


def load_trainer(program: str, folder: Path, precision: "Precision", threads: int) -> Trainer:
    """A model of the checkpoint's size. Raises Unsupported."""
    from resonance.checkpoint import Checkpoint

    torch.set_num_threads(threads)
    checkout = place("nanogpt")
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py") if checkout else None
    if spec is None or spec.loader is None:
        raise Unsupported("programs.nanogpt names no checkout of nanoGPT")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = Checkpoint.open(folder).config
    sizes = {"n_layer": config.n_layer, "n_head": config.n_head, "n_embd": config.n_embd}
    vocab_size = -(-config.vocab_size // 64) * 64
    settings = module.GPTConfig(
        block_size=config.context_length, vocab_size=vocab_size, dropout=0.0, bias=True, **sizes
    )
    return Trainer(module.GPT(settings).train(), bf16=precision == "bf16")
