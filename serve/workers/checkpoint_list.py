"""Which checkpoints the workers should hold: written by the HTTP process, followed by every worker, in shared memory.

It knows names and folders only. A key names one reading of a checkpoint, so that a replaced one is another.
"""

import json
import multiprocessing as mp
from collections.abc import Mapping

from resonance.errors import ResonanceError

ROOM = 65536  # bytes that the list may take


class Roster:
    """Folders by key. One process writes; `version` is even when nothing is being written."""

    def __init__(self, folders: Mapping[str, str], workers: int) -> None:
        array = mp.get_context("spawn").RawArray
        self._text = array("c", ROOM)
        self._version = array("q", 1)
        self._applied = array("q", workers)
        self._failed = array("q", workers)
        self.write(folders)

    def write(self, folders: Mapping[str, str]) -> int:
        """Replace the list; return its version. Raises ResonanceError when it is too long."""
        data = json.dumps(dict(folders)).encode()
        if len(data) >= ROOM:
            raise ResonanceError(f"The list of checkpoints takes {len(data)} bytes; there is room for {ROOM - 1}.")
        self._version[0] += 1
        self._text.value = data
        self._version[0] += 1
        return self._version[0]

    def version(self) -> int:
        """Which list is the present one."""
        return self._version[0]

    def read(self) -> tuple[int, dict[str, str]] | None:
        """The present list and its version; None while it is being written."""
        version = self._version[0]
        data = self._text.value
        if version % 2 or version != self._version[0]:
            return None
        return version, json.loads(data)

    def report(self, worker: int, version: int, *, failed: bool) -> None:
        """A worker says that it follows a list, or that it could not load what is new in it."""
        if failed:
            self._failed[worker] = version
        self._applied[worker] = version

    def applied(self, worker: int, version: int) -> bool:
        """Whether a worker has dealt with a list, or with a later one."""
        return self._applied[worker] >= version

    def failed(self, worker: int, version: int) -> bool:
        """Whether it could not load what was new in it."""
        return self._failed[worker] == version
