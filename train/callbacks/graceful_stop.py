"""Ctrl-C and SIGTERM end a run between two steps, so that what is saved is a whole step's state."""

import signal
import sys
from collections.abc import Callable
from types import FrameType

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from train.sft_module import Batch


class StoppedBySignal(Exception):
    """The run was asked to stop, and has saved its state."""


class StoppedAtOnce(Exception):
    """The run was asked to stop for the second time, and what it had not saved is lost."""


class GracefulStop(Callback):
    """The first signal ends the run after the step under way, when `save` is done; a second one ends it at once."""

    def __init__(self, save: Callable[[Trainer, LightningModule], None]) -> None:
        self._save = save
        self._asked = self._tells = False
        self._before: dict[int, object] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tells = trainer.is_global_zero
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return
        # Ranks hear a signal at different steps, and have to save the same one.
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            self._save(trainer, pl_module)
            raise StoppedBySignal

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:  # not a KeyboardInterrupt, which Lightning would turn into exit code 1
            raise StoppedAtOnce
        self._asked = True
        if self._tells:
            print("\nStopping after this step, to save it; Ctrl-C again stops at once.", file=sys.stderr, flush=True)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]  # as signal itself gave it
        self._before.clear()
