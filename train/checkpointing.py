"""How Lightning's state is put on disk: whole or not at all, and between two steps."""

import errno
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from resonance.atomic_files import write_atomically
from resonance.hydra_config import ConfigError


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the file's name and renames: a kill at any moment leaves the state before or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        def write(temporary: Path) -> None:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # which is how it tells of a full disk
                raise OSError(errno.EIO, str(error).splitlines()[0], str(path)) from error

        write_atomically(Path(path), write)


def saved_step(state: Path) -> int:
    """The optimiser step that a state was saved after. Raises ConfigError when the file is damaged."""
    try:
        return int(torch.load(state, map_location="cpu", mmap=True, weights_only=True)["global_step"])
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, UnpicklingError) as error:
        raise ConfigError(
            f"{state} is damaged and cannot be gone on from ({str(error).splitlines()[0]}); begin a new run from the "
            f"weights beside it: model.weights={state.parent}."
        ) from error


def between_steps(loops: dict[str, Any]) -> None:
    """Correct the saved counters of Lightning's fit loop to say that a step is over and the next has not begun.

    States are saved when a batch has been fetched and not yet trained on, and when a run has reached its last step,
    which a longer run goes on from; Lightning's counters then hold the fetched batch as begun, and the epoch, which
    for it is the whole run, as over.
    """
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    batches["is_last_batch"] = False
    for counter in (batches["current"], batches["total"]):
        counter["ready"] = counter["completed"]
    for counter in (epochs["current"], epochs["total"]):
        counter["processed"] = counter["completed"]


def check_same_adapter(saved: Mapping[str, object] | None, present: Mapping[str, object] | None) -> None:
    """Raise ConfigError unless a state was saved with the very adapter, over the very weights, that a run has now."""
    before, now = saved or {}, present or {}
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) == now.get(key):
            continue
        if key == "base_crc32":
            raise ConfigError("The weights beneath the adapter are not those that the run began with; put them back.")
        raise ConfigError(
            f"The run began with adapter.{key}={before.get(key)}, and goes on with it, not {now.get(key)}."
        )
