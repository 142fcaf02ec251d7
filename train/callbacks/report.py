"""Writes the run's report, `train.html`, while it trains and when it ends."""

import time
from contextlib import suppress
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from resonance.hydra_config import ConfigError
from train.callbacks.throughput import logged_every
from train.report.page import write_report
from train.sft_module import Batch


class TrainReport(Callback):
    """Writes the report at most every `every_s` seconds, at a logged step, and at the end of any kind.

    `price_per_hour` of one device, in any currency, is for the report's cost; None: hours only.
    """

    def __init__(self, every_s: float = 30.0, price_per_hour: float | None = None) -> None:
        for name, value in (("every_s", every_s), ("price_per_hour", price_per_hour)):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            allowed = name == "price_per_hour" if value is None else is_number and value >= 0
            if not allowed:
                raise ConfigError(f"callbacks.report.{name} must be 0 or more, not {value!r}.")
        self._every_s, self._written = every_s, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._written = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        is_logged = trainer.global_step and trainer.global_step % logged_every(trainer) == 0
        if is_logged and time.monotonic() - self._written >= self._every_s:
            self._write(trainer, running=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, running=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        with suppress(OSError):  # the exception says more, and report_only=true writes the report later
            self._write(trainer, running=False)

    def _write(self, trainer: Trainer, *, running: bool) -> None:
        if not trainer.is_global_zero:
            return
        write_report(Path(trainer.default_root_dir), running=running, total_steps=int(trainer.max_steps))
        self._written = time.monotonic()
