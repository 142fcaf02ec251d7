"""The engines of one worker: one per listed checkpoint, loaded on a thread and dropped when they are idle.

It knows checkpoints and engines, and of requests only which engines they keep busy.
"""

import logging
import threading
from collections.abc import Collection, Mapping

from resonance.checkpoint import Checkpoint
from resonance.engine import Engine
from serve.settings import EngineSettings
from serve.workers.shared_state import CheckpointList

log = logging.getLogger("resonance.serve.worker")


class Engines:
    """Engines by the checkpoint list's keys: `load` once, then `update` between the worker's steps."""

    def __init__(self, settings: EngineSettings, checkpoints: CheckpointList, worker: int, device: str) -> None:
        self.running: dict[str, Engine] = {}
        self._settings, self._checkpoints, self._worker, self._device = settings, checkpoints, worker, device
        self._version = 0
        self._listed: Collection[str] = ()
        self._loading: threading.Thread | None = None
        self._loaded: dict[str, Engine] = {}
        self._failed = False

    def load(self) -> None:
        """Load every checkpoint. Raises what loading raises, except for checkpoints added after the server started."""
        listed = self._checkpoints.read()
        if listed is None:  # it is being written right now; `update` will read it
            listed = 0, dict(self._settings.checkpoints)
        version, folders = listed
        self._listed = folders
        for key, folder in folders.items():
            try:
                self.running[key] = self._engine(folder)
            except Exception:
                if key in self._settings.checkpoints:
                    raise
                log.exception("a checkpoint that was loaded before cannot be loaded again")
        self._version = version
        self._checkpoints.report(self._worker, version, failed=False)

    def update(self, busy: Collection[str]) -> None:
        """Apply the checkpoint list; engines that are `busy` stay until they are idle."""
        if self._loading is not None and not self._loading.is_alive():
            self._loading = None
            self.running |= self._loaded
            self._checkpoints.report(self._worker, self._version, failed=self._failed)
        if self._loading is None and self._checkpoints.version() != self._version:
            self._start_loading()
        for key in [key for key in self.running if key not in self._listed and key not in busy]:
            del self.running[key]

    def _start_loading(self) -> None:
        listed = self._checkpoints.read()
        if listed is None:
            return
        self._version, folders = listed
        self._listed, self._loaded, self._failed = folders, {}, False
        missing = {key: folder for key, folder in folders.items() if key not in self.running}
        self._loading = threading.Thread(target=self._load, args=(missing,), name="load-checkpoint", daemon=True)
        self._loading.start()

    def _load(self, folders: Mapping[str, str]) -> None:
        for key, folder in folders.items():
            try:
                self._loaded[key] = self._engine(folder)
            except Exception:
                log.exception("a checkpoint cannot be loaded")
                self._failed = True

    def _engine(self, folder: str) -> Engine:
        return Engine.from_checkpoint(
            Checkpoint.find(folder),
            dtype=self._settings.dtype,
            quantize=self._settings.quantize,
            max_batch_size=self._settings.max_batch_size,
            device=self._device,
        )
