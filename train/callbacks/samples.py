"""Sample answers during training: printed, written to `samples.jsonl`, and logged to Weights & Biases."""

import json
from collections.abc import Sequence
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from rich import get_console
from rich.markup import escape

from data.example import Example
from data.module import SFTDataModule
from resonance import lora
from resonance.chat_template import ChatTemplate
from resonance.engine import Engine, SamplingParams
from train.sft_module import Batch, SFTModule


class Samples(Callback):
    """Generates greedy answers to a few validation examples every `every_n_steps`."""

    def __init__(self, *, every_n_steps: int, count: int, max_new_tokens: int) -> None:
        self._every, self._count, self._max_new_tokens = every_n_steps, count, max_new_tokens
        self._examples: Sequence[Example] = ()
        self._shown_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown_step = trainer.global_step
        self._examples = data_of(trainer).splits.validation[: self._count]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self._every and step > self._shown_step and step % self._every == 0:
            self._shown_step = step
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._every and trainer.global_step > self._shown_step:
            self._show(trainer, pl_module)

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self._examples:
            return
        assert isinstance(pl_module, SFTModule)
        with pl_module.served_weights():
            answers = self._answers(pl_module, data_of(trainer).template)
        console = get_console()
        step = trainer.global_step
        rows = [
            {"step": step, "prompt": example.prompt[-1].content, "expected": example.answer, "answer": answer}
            for example, answer in zip(self._examples, answers, strict=True)
        ]
        for row in rows:
            mark = "[green]=[/]" if row["answer"] == row["expected"] else "[red]x[/]"
            console.print(f"  {mark} {escape(repr(row['prompt']))} -> {escape(repr(row['answer']))}", highlight=False)
        with (Path(trainer.default_root_dir) / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                table = [[str(value) for value in row.values()] for row in rows]
                logger.log_text("samples", columns=list(rows[0]), data=table, step=step)

    def _answers(self, pl_module: SFTModule, template: ChatTemplate) -> list[str]:
        model = pl_module.model
        budget = model.config.context_length - self._max_new_tokens
        prompts = [template.fit(example.prompt, budget=budget).prompt_ids for example in self._examples]
        engine = Engine(lora.plain(model), template.tokenizer, max_batch_size=len(prompts), eos_id=template.end_id)
        params = SamplingParams(temperature=0.0, max_new_tokens=self._max_new_tokens)
        answers = [completion.text for completion in engine.generate(prompts, params)]
        model.train()
        return answers


def data_of(trainer: Trainer) -> SFTDataModule:
    """The run's data module."""
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it in fit
    assert isinstance(data, SFTDataModule)
    return data
