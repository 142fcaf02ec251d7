"""Early stopping by any score that a run measures."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks
from rich import get_console

from resonance.hydra_config import ConfigError
from train.callbacks.scores import callbacks_of, check_measured, declared_scores, not_logged, scores_at_this_step
from train.sft_module import Batch


class EarlyStopping(callbacks.EarlyStopping):
    """Ends the run after `patience` measurements of a score without an improvement by more than `min_delta`.

    `monitor` names the score: one of validation, or of a callback that measures on its own schedule, such as
    `eval/instruct.exact_match`. None: the score that selects the best weights. `mode` says whether less (min) or more
    (max) is better; None: as the score declares. `choose` completes both before training.

    Raises ConfigError for a mode that does not exist, and at the first validation for a score that was not logged.
    """

    def __init__(self, *, patience: int, min_delta: float, monitor: str | None = None, mode: str | None = None) -> None:
        if mode not in (None, "min", "max"):
            raise ConfigError(f"callbacks.early_stopping.mode must be min, max or null, not {mode!r}.")
        super().__init__("", patience=patience, min_delta=0.0, check_on_train_epoch_end=False)
        self._least, self._monitor, self._mode = min_delta, monitor, mode
        self._declared = False  # whether a callback measures the score, and not validation
        self._measured_step = 0

    def choose(self, monitor: str, mode: str, known: Mapping[str, str]) -> None:
        """Complete the settings: those of the best weights, and the known scores, each with its mode.

        Raises ConfigError for a score that nothing measures, and for a mode that would stop at the best one.
        """
        self.monitor = monitor if self._monitor is None else self._monitor
        self.mode = self._mode or known.get(self.monitor) or (mode if self.monitor == monitor else "")
        key = "callbacks.early_stopping.monitor"
        check_measured(self.monitor, self.mode or "min", known, key=key, mode_key="callbacks.early_stopping.mode")
        if not self.mode:
            raise ConfigError(
                f"{key}={self.monitor} does not say whether more is better; set callbacks.early_stopping.mode to min "
                "or max."
            )
        self.min_delta = self._least if self.mode == "max" else -self._least
        self.best_score = torch.tensor(float("-inf" if self.mode == "max" else "inf"))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        patience = self.patience  # the config's: a resumed run may change it
        super().load_state_dict(state_dict)
        self.patience = patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._declared = self.monitor in declared_scores(callbacks_of(trainer))
        self._measured_step = trainer.global_step  # a resumed run has measured its step before

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        self._check_callbacks_score(trainer, pl_module)  # of one that measures after steps

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._declared:
            self._check_callbacks_score(trainer, pl_module)  # of one that measures at validations
            return
        if self.monitor not in trainer.callback_metrics:
            raise not_logged("callbacks.early_stopping.monitor", self.monitor, trainer)
        super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopping_reason_message is not None and trainer.global_step < trainer.max_steps:
            get_console().print(
                f"stopped early at step {trainer.global_step}: {self.monitor} has not improved on "
                f"{float(self.best_score):.4f} in {self.wait_count} measurements",
                highlight=False,
                markup=False,
            )

    def _check_callbacks_score(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = scores_at_this_step(trainer).get(self.monitor) if self._declared else None
        if value is None or trainer.global_step == self._measured_step:
            return
        self._measured_step = trainer.global_step
        trainer.callback_metrics[self.monitor] = torch.tensor(value)
        super().on_validation_end(trainer, pl_module)


def early_stopping(
    *, patience: int | None, min_delta: float, monitor: str | None = None, mode: str | None = None
) -> EarlyStopping | None:
    """The callback; None without a patience."""
    if patience is None:
        return None
    return EarlyStopping(patience=patience, min_delta=min_delta, monitor=monitor, mode=mode)
