"""Sample answers during training: printed, written to `samples.jsonl`, and logged to W&B and TensorBoard."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from rich import get_console
from rich.markup import escape

from data.example import Example
from data.module import SFTDataModule
from resonance import lora
from resonance.atomic_files import write_text_atomically
from resonance.chat_template import ChatTemplate, Message
from resonance.engine import Engine, SamplingParams
from resonance.model import GPT2
from train.sft_module import Batch, SFTModule

SAMPLES_FILE = "samples.jsonl"


class Samples(Callback):
    """Generates greedy answers to the same few validation examples every `every_n_steps`.

    W&B and TensorBoard get one table of all answers so far. A resumed run replaces those after its checkpoint's step.
    """

    def __init__(self, *, every_n_steps: int, count: int, max_new_tokens: int) -> None:
        self._every, self._count, self._max_new_tokens = every_n_steps, count, max_new_tokens
        self._examples: Sequence[Example] = ()
        self._shown_step = self._tracked_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown_step = trainer.global_step
        self._examples = data_of(trainer).splits.validation[: self._count]
        if trainer.is_global_zero and (rows := read_samples(Path(trainer.default_root_dir))):
            self._tracked_step = max(row["step"] for row in rows)
            kept = [row for row in rows if row["step"] <= trainer.global_step]
            write_text_atomically(Path(trainer.default_root_dir) / SAMPLES_FILE, "".join(map(_line, kept)))

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
        if not self._examples:
            return
        assert isinstance(pl_module, SFTModule)
        with pl_module.served_model() as model:
            if not trainer.is_global_zero:
                return
            answers = self._answers(model, data_of(trainer).template)
        console = get_console()
        step = trainer.global_step
        rows = [
            {"step": step, "prompt": _text(example.prompt[-1]), "expected": example.answer, "answer": answer}
            for example, answer in zip(self._examples, answers, strict=True)
        ]
        for row in rows:
            mark = "[green]=[/]" if row["answer"] == row["expected"] else "[red]x[/]"
            console.print(f"  {mark} {escape(repr(row['prompt']))} -> {escape(repr(row['answer']))}", highlight=False)
        folder = Path(trainer.default_root_dir)
        with (folder / SAMPLES_FILE).open("a", encoding="utf-8") as file:
            file.writelines(map(_line, rows))
        table = [[str(value) for value in row.values()] for row in read_samples(folder)]
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and step > self._tracked_step:  # it has no way to replace a step
                logger.log_text("samples", columns=list(rows[0]), data=table, step=step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("samples", _markdown(list(rows[0]), table), step)

    def _answers(self, model: GPT2, template: ChatTemplate) -> list[str]:
        budget = model.config.context_length - self._max_new_tokens
        prompts = [template.fit(example.prompt, budget=budget).prompt_ids for example in self._examples]
        engine = Engine(lora.plain(model), template.tokenizer, max_batch_size=len(prompts), eos_id=template.end_id)
        params = SamplingParams(temperature=0.0, max_new_tokens=self._max_new_tokens)
        answers = [completion.text for completion in engine.generate(prompts, params)]
        model.train()
        return answers


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's `samples.jsonl`: step, prompt, expected, answer. Skips a line that a kill cut off."""
    path = folder / SAMPLES_FILE
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _text(message: Message) -> str:
    """A message as one text, with what it is about."""
    return message.content if message.context is None else f"{message.content}\n{message.context}"


def _line(row: Mapping[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that TensorBoard shows; answers are code, so that nothing in them is markup."""
    lines = [[f"`{cell}`" if cell.strip() else "" for cell in map(_in_code, row)] for row in rows]
    return "\n".join("|".join(line) for line in (heads, ["---"] * len(heads), *lines))


def _in_code(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "\u2502").split())


def data_of(trainer: Trainer) -> SFTDataModule:
    """The run's data module."""
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it in fit
    assert isinstance(data, SFTDataModule)
    return data
