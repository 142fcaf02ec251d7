"""Ctrl-C and SIGTERM end a run between two steps, so that what is saved is a whole step's state."""

import signal
from types import FrameType

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from train.module import Batch


class GracefulStop(Callback):
    """The first signal asks the run to stop after the step under way; a second Ctrl-C stops it at once."""

    def __init__(self) -> None:
        self.signal: int | None = None  # the one that stopped the run
        self._before: dict[int, object] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        if self.signal is not None and trainer.fit_loop.epoch_loop.global_step:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]  # as signal itself gave it
        self._before.clear()
