"""Schedules validation by optimiser steps."""

import math

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from train.sft_module import Batch


class ValidationSchedule(Callback):
    """Validates every `every_n_steps`, or after the step that ends an epoch; and always after the last step."""

    def __init__(self, every_n_steps: int | None, epoch_length: int) -> None:
        self._every, self._epoch_length = every_n_steps, epoch_length

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        batches = trainer.fit_loop.total_batch_idx + 1
        is_step = batches % trainer.accumulate_grad_batches == 0
        # Lightning validates when this number divides the number of batches so far.
        trainer.val_check_batch = batches if is_step and self._is_due(trainer, batches) else math.inf

    def _is_due(self, trainer: Trainer, batches: int) -> bool:
        if trainer.global_step >= trainer.max_steps:
            return True
        if self._every is not None:
            return trainer.global_step % self._every == 0
        return batches // self._epoch_length > (batches - trainer.accumulate_grad_batches) // self._epoch_length


def total_steps(*, max_steps: int | None, max_epochs: int | None, epoch_length: int, accumulate: int) -> int:
    """The optimiser steps of a run: the smaller of both limits, or 3 epochs without limits.

    An epoch ends with the step that includes its last batch; that step's other micro-batches start the next epoch.
    """
    if max_epochs is None:
        if max_steps is not None:
            return max_steps
        max_epochs = 3
    by_epochs = math.ceil(max_epochs * epoch_length / accumulate)
    return by_epochs if max_steps is None else min(max_steps, by_epochs)
