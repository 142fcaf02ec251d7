"""Evaluates the present weights during training; Hydra composes it with `callbacks=evaluate`."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from rich import get_console

from data.module import SFTDataModule
from eval import EvalError
from eval.dataset import subsample
from eval.evaluate import Evaluation, evaluate
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Metric
from eval.tasks.base import Task
from resonance import lora
from resonance.chat_template import Window
from resonance.engine import Engine
from resonance.model import GPT2


class EvaluateDuringTraining(Callback):
    """Runs `tasks` on the validation split every `every_n_steps`, and after the last step.

    At most `limit` examples, sampled by `seed`, are used. The scores, such as `eval/instruct.exact_match`, go into
    `metrics.csv`, to the loggers and into Lightning's `callback_metrics`; `save.monitor` may name one. Rank 0 evaluates
    while the others wait. Random states and the modes of the model's layers are restored, so that training computes the
    same as without the callback. An error is reported, and training goes on.

    Raises EvalError when there are no tasks.
    """

    def __init__(
        self,
        *,
        every_n_steps: int,
        tasks: Mapping[str, Task[Any] | None],
        limit: int | None,
        batch_size: int,
        seed: int,
    ) -> None:
        self._every, self._limit, self._batch_size, self._seed = every_n_steps, limit, batch_size, seed
        self._tasks = {name: task for name, task in tasks.items() if task is not None}
        if not self._tasks:
            raise EvalError(
                "callbacks.evaluate.tasks has no task; leave one, or choose callbacks=default to train without."
            )
        self.score_step = 0
        self.scores: Mapping[str, float] = {}

    @property
    def score_modes(self) -> Mapping[str, str]:
        """All scores that the tasks may have, each with `max` where more is better, else `min`."""
        return {
            f"eval/{task_name}.{name}": "max" if spec.higher_is_better else "min"
            for task_name, task in self._tasks.items()
            for name, spec in task.metrics.items()
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.score_step, self.scores = trainer.global_step, {}  # a resumed run has evaluated its step before

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step > self.score_step and (step % self._every == 0 or step >= trainer.max_steps):
            with _served_model(pl_module) as model:
                scores = self._scores(trainer, pl_module, model) if trainer.is_global_zero else {}
            self.score_step, self.scores = step, trainer.strategy.broadcast(scores)  # the other ranks wait here
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self.scores.items()})

    def _scores(self, trainer: Trainer, pl_module: LightningModule, trained: object) -> dict[str, float]:
        """The scores of the `trained` model; those of tasks that cannot run are absent, and the console says why."""
        console, step = get_console(), trainer.global_step
        modes = {module: module.training for module in pl_module.modules()}
        with isolate_rng():  # which restores nothing after an exception
            try:
                evaluation = self._evaluation(trainer, pl_module, trained)
            except Exception as error:  # whatever it is: a failed evaluation must not cost the run
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                console.print(f"step {step}  evaluation failed: {reason}", highlight=False, markup=False)
                return {}
            finally:
                for module, training in modes.items():
                    module.training = training
        scores: dict[str, float] = {}
        for task, result in evaluation.results.items():
            if result.error is not None:
                console.print(f"step {step}  {task} did not run: {result.error}", highlight=False, markup=False)
            for name, spec in result.specs.items():
                metric = Metric.of_records(spec, name, result.records)
                if metric.n:
                    scores[f"eval/{task}.{name}"] = metric.value()
        line = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
        console.print(f"step {step}  {line}", highlight=False, markup=False)
        return scores

    def _evaluation(self, trainer: Trainer, pl_module: LightningModule, trained: object) -> Evaluation:
        data: object = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it in fit
        if not isinstance(trained, GPT2) or not isinstance(data, SFTDataModule):
            raise EvalError("Only runs of `resonance train` can be evaluated during training.")
        length = pl_module.trained_length
        model = EvaluatedModel(
            label=f"step {trainer.global_step}",
            engine=Engine(
                lora.plain(trained),
                data.template.tokenizer,
                max_batch_size=self._batch_size,
                eos_id=data.template.end_id,
                precision="fp32",
            ),
            template=data.template,
            tokenizer=data.template.tokenizer,
            window=Window(trained.config.context_length, length if isinstance(length, int) else None),
            batch_size=self._batch_size,
        )
        examples = subsample(data.splits.validation, self._limit, self._seed)
        if not examples and any(task.needs_examples for task in self._tasks.values()):
            raise EvalError("The data has no validation split to evaluate on.")
        return evaluate(model, self._tasks, examples)


def _served_model(pl_module: LightningModule) -> AbstractContextManager[object]:
    """The model that a run of `resonance train` serves: with averaged weights, gathered where they are sharded."""
    served: Callable[[], AbstractContextManager[object]] | None = getattr(pl_module, "served_model", None)
    return nullcontext(pl_module.model) if served is None else served()
