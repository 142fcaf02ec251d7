"""The engines of one worker: those of the roster, loaded beside the work and dropped when theirs is done.

It knows checkpoints and engines, and nothing of jobs but which engines are busy.
"""

import logging
import threading
from collections.abc import Collection, Mapping

from resonance.checkpoint import Checkpoint
from resonance.engine import Engine
from serve.settings import EngineSettings
from serve.workers.checkpoint_list import Roster

log = logging.getLogger("resonance.serve.inference.worker")


class Engines:
    """Engines by the roster's keys; `load` at first, then `follow` between the worker's steps."""

    def __init__(self, settings: EngineSettings, roster: Roster, worker: int, device: str) -> None:
        self.running: dict[str, Engine] = {}
        self._settings, self._roster, self._worker, self._device = settings, roster, worker, device
        self._version = 0
        self._wanted: Collection[str] = ()
        self._loading: threading.Thread | None = None
        self._loaded: dict[str, Engine] = {}
        self._failed = False

    def load(self) -> None:
        """Load everything. Raises what loading raises, but for checkpoints that came after the server's start."""
        listed = self._roster.read()
        if listed is None:  # it is being written at this very moment; `follow` will see it
            listed = 0, dict(self._settings.checkpoints)
        version, folders = listed
        self._wanted = folders
        for key, folder in folders.items():
            try:
                self.running[key] = self._engine(folder)
            except Exception:
                if key in self._settings.checkpoints:
                    raise
                log.exception("a checkpoint that was loaded before cannot be loaded again")
        self._version = version
        self._roster.report(self._worker, version, failed=False)

    def follow(self, busy: Collection[str]) -> None:
        """Take up what the roster says now; engines that are `busy` stay until they are not."""
        if self._loading is not None and not self._loading.is_alive():
            self._loading = None
            self.running |= self._loaded
            self._roster.report(self._worker, self._version, failed=self._failed)
        if self._loading is None and self._roster.version() != self._version:
            self._begin()
        for key in [key for key in self.running if key not in self._wanted and key not in busy]:
            del self.running[key]

    def _begin(self) -> None:
        listed = self._roster.read()
        if listed is None:
            return
        self._version, folders = listed
        self._wanted, self._loaded, self._failed = folders, {}, False
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
