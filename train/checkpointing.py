"""Lightning's training state on disk: written atomically, and at a step boundary."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from resonance.atomic_files import write_atomically
from resonance.hydra_config import ConfigError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a temporary file and renames it: a kill at any moment leaves the old state or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        def write(temporary: Path) -> None:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch raises it when the disk is full
                raise OSError(errno.EIO, str(error).splitlines()[0], str(path)) from error

        write_atomically(Path(path), write)


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a saved state says of its run: its optimiser step, and the rows that all processes trained on at once.

    `rows` is None where the data was streamed, whose order depends on the number of processes.
    """

    step: int
    rows: int | None


def read_state(path: Path) -> SavedState:
    """Read a saved state's facts. Raises ConfigError when the file is damaged."""
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        settings = _loader_state(state["loops"]["fit_loop"])["settings"]
        streamed = "buffer" in settings
        rows = settings.get("rows", settings["batch_size"] * settings["processes"])
        return SavedState(int(state["global_step"]), None if streamed else int(rows))
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, UnpicklingError) as error:
        raise ConfigError(
            f"{path} is damaged and cannot be gone on from ({str(error).splitlines()[0]}); begin a new run from the "
            f"weights beside it: model.weights={path.parent}."
        ) from error


def scale_progress(loops: dict[str, Any], parts: int) -> None:
    """Count the saved progress of Lightning's fit loop in `parts` batches where one of a process is shared so now."""
    before = int(_loader_state(loops).get("parts", 1))
    batches = loops["epoch_loop.batch_progress"]
    for counter in (batches["current"], batches["total"]):
        for name in ("ready", "started", "processed", "completed"):
            counter[name] = counter[name] // before * parts


def _loader_state(loops: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of the training loader, see `data.loader.TrainLoader`."""
    (state,) = loops["state_dict"]["combined_loader"]
    return state


def align_to_step(loops: dict[str, Any]) -> None:
    """Correct the saved progress counters of Lightning's fit loop to a step boundary.

    States are saved after a batch is fetched and before it is trained on, and after a run's last step, from which a
    longer run can resume. Lightning's counters then include the fetched batch as started, and the epoch (for Lightning,
    the whole run) as finished.
    """
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    batches["is_last_batch"] = False
    for counter in (batches["current"], batches["total"]):
        counter["ready"] = counter["completed"]
    for counter in (epochs["current"], epochs["total"]):
        counter["processed"] = counter["completed"]


def check_same_adapter(saved: Mapping[str, object] | None, present: Mapping[str, object] | None) -> None:
    """Raise ConfigError unless the saved adapter and its base weights are those of the present run."""
    before, now = saved or {}, present or {}
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) == now.get(key):
            continue
        if key == "base_crc32":
            raise ConfigError("The weights beneath the adapter are not those that the run began with; put them back.")
        raise ConfigError(
            f"The run began with adapter.{key}={before.get(key)}, and goes on with it, not {now.get(key)}."
        )
