"""How Lightning's state is put on disk: whole or not at all, and read without running anything."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from resonance.paths import write_atomically


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the file's name and renames: a kill at any moment leaves the state before or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_atomically(Path(path), lambda temporary: torch.save(checkpoint, temporary))
