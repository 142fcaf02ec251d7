"""How Lightning's state is put on disk: whole or not at all, and between two steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from resonance.config import ConfigError
from resonance.paths import write_atomically


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the file's name and renames: a kill at any moment leaves the state before or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_atomically(Path(path), lambda temporary: torch.save(checkpoint, temporary))


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
