"""Stops a run between two steps on Ctrl-C or SIGTERM, and explains early ends."""

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import ClassVar

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from data.module import SFTDataModule
from resonance.checkpoint import STATE_FILE
from train.callbacks.run_folder import RunFolder
from train.events import record_event
from train.non_finite import NonFiniteError
from train.sft_module import Batch


class StoppedBySignal(Exception):
    """A first signal stopped the run, after it saved its state."""


class StoppedAtOnce(BaseException):
    """A second signal stopped the run; progress since the last save is lost.

    Raised at any place, so that code which outlives its own errors must not take it for one of them.
    """


class GracefulStop(Callback):
    """The first signal stops the run after the current step and `save`; a second one stops it at once.

    `requested` says whether this process's last run got a signal, which in its last step comes too late to stop it.
    """

    requested: ClassVar[bool] = False

    def __init__(self, save: Callable[[Trainer, LightningModule], None]) -> None:
        self._save = save
        self._is_rank_zero = False
        self._previous_handlers: dict[int, object] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_rank_zero, GracefulStop.requested = trainer.is_global_zero, False
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous_handlers[number] = signal.signal(number, self._request_stop)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return
        # Ranks receive a signal at different steps, and must save the same step.
        if trainer.strategy.reduce_boolean_decision(self.requested, all=False):
            self._save(trainer, pl_module)
            raise StoppedBySignal

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # not a KeyboardInterrupt, which Lightning would turn into exit code 1
            raise StoppedAtOnce
        GracefulStop.requested = True
        if self._is_rank_zero:
            print("\nStopping after this step, to save it; Ctrl-C again stops at once.", file=sys.stderr, flush=True)

    def _restore(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]  # a value that signal returned
        self._previous_handlers.clear()


@contextmanager
def explain_stop(trainer: Trainer, writer: RunFolder, data: SFTDataModule) -> Generator[None]:
    """Wraps `fit`: re-raises an early end with what is kept, and records one by a non-finite number in `events.jsonl`.

    Raises KeyboardInterrupt with a message after a second signal, and NonFiniteError.
    """
    folder = Path(trainer.default_root_dir)
    state = folder / STATE_FILE
    try:
        yield
    except NonFiniteError as error:
        if not trainer.is_global_zero:  # all ranks stop; rank 0 reports why
            raise SystemExit(error.exit_code) from None
        train = data.splits.train
        rows = [(train[i].row if i < len(train) else None) or i + 1 for i in error.examples]
        record_event(folder, "non_finite", error.step, {"rows": rows, "saved_step": writer.saved_step})
        raise error.with_last_state(state, writer.saved_step) from None
    except StoppedAtOnce:
        if not trainer.is_global_zero:
            raise SystemExit(130) from None
        if not state.is_file():
            raise KeyboardInterrupt("Stopped at once; no step had been saved, so nothing is kept.") from None
        raise KeyboardInterrupt(
            f"Stopped at once; step {writer.saved_step} is kept. resume={folder.name} goes on from it."
        ) from None
    except SystemExit as end:  # Lightning raises it for a Ctrl-C before the first step or after the last
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
