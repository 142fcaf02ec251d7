"""GPT2LMHeadModel in transformers' `Trainer` and TRL's `SFTTrainer`, with their defaults and without dropout.

Padded to the longest example of a batch, or packed: transformers flattens a batch to one row by its collator, TRL packs
rows of the context's length. Both tell documents apart by their position ids.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

if TYPE_CHECKING:
    from resonance.bench.workloads.examples import Example
    from resonance.engine.quantization import Precision

IGNORE_INDEX = -100


class Clock(transformers.TrainerCallback):
    """The time at the end of each step, from the start of training."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The first step starts the clock."""
        self.times = self.times or [time.perf_counter()]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step has ended."""
        self.times.append(time.perf_counter())


class Trainer:
    """Starts the library's trainer for every measurement, on the same model."""

    def __init__(self, program: str, folder: Path, *, bf16: bool) -> None:
        self._model = transformers.GPT2LMHeadModel.from_pretrained(
            folder, dtype=torch.float32, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
        )
        self._model.config.use_cache = False
        self._library, self._packed = program.split(maxsplit=1)[0], program.endswith("packed")
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, pad_token="<|endoftext|>")
        self._bf16 = bf16

    def steps(self, examples: "Sequence[Example]", count: int, batch: int) -> Iterator[float]:
        """Train for `count` steps on `batch` examples each; yield the tokens a second of each, padding not counted."""
        rows = [
            {
                "input_ids": example.input_ids,
                "labels": [
                    token if learnt else IGNORE_INDEX
                    for token, learnt in zip(example.input_ids, example.loss_mask, strict=True)
                ],
            }
            for example in examples
        ]
        clock, tokens = Clock(), list[int]()
        with tempfile.TemporaryDirectory() as folder:
            settings = {
                "output_dir": folder,
                "per_device_train_batch_size": batch,
                "max_steps": count,
                "bf16": self._bf16,
                "use_cpu": True,
                "save_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
            }
            trainer = (self._sft if self._library == "trl" else self._plain)(rows, settings, batch)
            trainer.data_collator = Counting(trainer.data_collator, tokens)
            trainer.add_callback(clock)
            trainer.train()
        for step, (start, end) in enumerate(zip(clock.times, clock.times[1:], strict=False)):
            yield tokens[step] / (end - start)

    def _plain(self, rows: list[dict[str, list[int]]], settings: dict[str, Any], batch: int) -> Any:
        collator = (
            transformers.DataCollatorWithFlattening()
            if self._packed
            else transformers.DataCollatorForSeq2Seq(self._tokenizer)
        )
        return transformers.Trainer(
            self._model, transformers.TrainingArguments(**settings), data_collator=collator, train_dataset=rows
        )

    def _sft(self, rows: list[dict[str, list[int]]], settings: dict[str, Any], batch: int) -> Any:
        import datasets
        import trl

        settings |= {"max_length": self._model.config.n_positions, "dataset_num_proc": None}
        if self._packed:  # as many full rows as hold the batch's tokens
            mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
            rows_at_once = max(1, round(batch * mean / self._model.config.n_positions))
            settings |= {"packing": True, "per_device_train_batch_size": rows_at_once}
        config = trl.SFTConfig(**settings)
        dataset = datasets.Dataset.from_list(rows)
        return trl.SFTTrainer(self._model, config, train_dataset=dataset, processing_class=self._tokenizer)


class Counting:
    """A collator that notes the tokens of each batch, without padding."""

    def __init__(self, collator: Any, tokens: list[int]) -> None:
        self._collator, self._tokens = collator, tokens

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        """See transformers' collators."""
        self._tokens.append(sum(len(row["input_ids"]) for row in rows))
        return self._collator(rows)


def load_trainer(program: str, folder: Path, precision: "Precision", threads: int) -> Trainer:
    """A trainer of the checkpoint's model."""
    torch.set_num_threads(threads)
    return Trainer(program, folder, bf16=precision == "bf16")
