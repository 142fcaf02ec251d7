"""What a run says when it ends early: what is kept, and how to go on."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer

from data.module import SFTDataModule
from resonance.checkpoint import STATE_FILE
from train.callbacks.graceful_stop import StoppedAtOnce
from train.callbacks.run_folder import RunFolder
from train.events import record_event
from train.non_finite import NonFiniteError


@contextmanager
def explain_stop(trainer: Trainer, writer: RunFolder, data: SFTDataModule) -> Generator[None]:
    """Around `fit`: an early end is raised again with what is kept, and one by a non-finite number is recorded.

    Raises KeyboardInterrupt with a sentence for an end by a second signal, and NonFiniteError.
    """
    folder = Path(trainer.default_root_dir)
    state = folder / STATE_FILE
    try:
        yield
    except NonFiniteError as error:
        if not trainer.is_global_zero:  # all ranks end alike, and one says why
            raise SystemExit(error.exit_code) from None
        train = data.splits.train
        rows = [train[i].row or i + 1 for i in error.examples]
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
    except SystemExit as end:  # Lightning's answer to a Ctrl-C before the first step, or after the last
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
