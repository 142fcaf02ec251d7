"""The memory that the HTTP process and the workers share: request slots, heartbeats, counters, the checkpoint list.

It knows numbers and names only. Every cell has one writer at a time, so nothing locks:

- the HTTP process writes `seq` (which request holds a slot; 0: none), `paused` (which request is paused; 0: none) and
  the list of checkpoints;
- a worker writes `owner` (which request it has claimed) and when, its heartbeat, its counters and which checkpoint list
  it has applied;
- the main process writes a worker's `epoch`, `state` and `restarts` while that worker does not run.

Releasing a slot cancels its request: the worker drops requests that are no longer live before its next step.
"""

import json
import multiprocessing as mp
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from resonance.errors import ResonanceError

_OWNER_BITS = 24  # of `owner`: the worker's number in 8 bits, its epoch in 16; the request's number above
CHECKPOINT_LIST_BYTES = 65536
NOTES_BYTES = 1024

PRECISIONS = ("fp32", "bf16", "int8", "int4")
COUNTERS = (
    "active",  # requests that a worker has claimed and not finished
    "cancelled",  # requests that were dropped because the client had gone or their time was over
    "generated_tokens",
    "prompt_tokens",
    "cached_tokens",  # prompt tokens found in the prefix cache
    "steps",
    "batch",  # sequences of the last step
)


class WorkerState(IntEnum):
    """The state of a worker process."""

    LOADING = 0
    READY = 1
    FAILED = 2  # it could not load a model
    DEAD = 3


@dataclass(frozen=True, slots=True)
class RequestSlot:
    """One of the server's request slots, held by the request with number `seq`."""

    slot: int
    seq: int

    @property
    def uid(self) -> str:
        """The request's id in the messages between processes."""
        return f"{self.slot}.{self.seq}"


class SharedState:
    """`slots` request slots, shared with `workers` inference workers."""

    def __init__(self, slots: int, workers: int) -> None:
        array = mp.get_context("spawn").RawArray
        self.slots, self.workers = slots, workers
        self._seq = array("q", slots)
        self._paused = array("q", slots)
        self._owner = array("q", slots)
        self._claimed = array("q", slots)
        self._epoch = array("q", workers)
        self._state = array("q", workers)
        self._heartbeat = array("q", workers)
        self._restarts = array("q", workers)
        self._precision = array("q", workers)
        self._notes = array("c", NOTES_BYTES)
        self._counters = {name: array("q", workers) for name in COUNTERS}
        self._free: deque[int] | None = None
        self._issued = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_free": None}

    # The HTTP process

    def acquire(self) -> RequestSlot | None:
        """Take a free slot; None when all are in use."""
        if self._free is None:
            self._free = deque(range(self.slots))
        if not self._free:
            return None
        self._issued += 1
        slot = self._free.popleft()
        self._seq[slot] = self._issued
        return RequestSlot(slot, self._issued)

    def release(self, slot: RequestSlot) -> None:
        """Free a slot, whether its request is finished or not. A second call does nothing."""
        if self._free is not None and self._seq[slot.slot] == slot.seq:
            self._seq[slot.slot] = 0
            self._free.append(slot.slot)

    def pause(self, slot: RequestSlot, *, paused: bool) -> None:
        """Pause or resume a request; workers check before each step."""
        self._paused[slot.slot] = slot.seq if paused else 0

    def slots_in_use(self) -> int:
        """Return how many slots are held."""
        return 0 if self._free is None else self.slots - len(self._free)

    def is_claimed(self, slot: RequestSlot) -> bool:
        """Return whether a worker has claimed the request."""
        return self._owner[slot.slot] >> _OWNER_BITS == slot.seq

    def claimed_at(self, slot: RequestSlot) -> float | None:
        """Return when a worker claimed the request (seconds of the monotonic clock); None when none has."""
        return self._claimed[slot.slot] / 1e9 if self.is_claimed(slot) else None

    def is_orphaned(self, slot: RequestSlot) -> bool:
        """Return whether the worker that claimed the request has died since."""
        owner = self._owner[slot.slot]
        if owner >> _OWNER_BITS != slot.seq:
            return False
        worker, epoch = (owner & 0xFF), (owner >> 8) & 0xFFFF
        return self._epoch[worker] & 0xFFFF != epoch

    def worker_deaths(self) -> int:
        """Return how many workers have died so far."""
        return sum(self._epoch)

    # A worker

    def is_live(self, slot: RequestSlot) -> bool:
        """Return whether the request still holds its slot."""
        return self._seq[slot.slot] == slot.seq

    def is_paused(self, slot: RequestSlot) -> bool:
        """Return whether the request is paused."""
        return self._paused[slot.slot] == slot.seq

    def claim(self, slot: RequestSlot, worker: int) -> None:
        """Record that this worker has claimed the request."""
        self._claimed[slot.slot] = time.monotonic_ns()
        self._owner[slot.slot] = slot.seq << _OWNER_BITS | (self._epoch[worker] & 0xFFFF) << 8 | worker

    def heartbeat(self, worker: int) -> None:
        """Record that the worker is alive now."""
        self._heartbeat[worker] = time.monotonic_ns()

    def increment(self, name: str, worker: int, amount: int = 1) -> None:
        """Increment one of the worker's counters."""
        self._counters[name][worker] += amount

    def set_gauge(self, name: str, worker: int, value: int) -> None:
        """Set one of the worker's counters."""
        self._counters[name][worker] = value

    def set_precision(self, worker: int, precision: str) -> None:
        """Record the precision of the worker's first model."""
        self._precision[worker] = PRECISIONS.index(precision) if precision in PRECISIONS else 0

    def set_engine_notes(self, notes: Sequence[str]) -> None:
        """Record what the first worker's engine reports as unavailable, such as its C++ kernels."""
        self._notes.value = "\n".join(notes).encode()[: NOTES_BYTES - 1]

    # The main process, and every reader

    def set_worker_state(self, worker: int, state: WorkerState) -> None:
        """Record the worker's state."""
        self._heartbeat[worker] = time.monotonic_ns()
        self._state[worker] = state

    def mark_dead(self, worker: int) -> None:
        """Record that the worker's process has died; every request that it had claimed is orphaned."""
        self._epoch[worker] += 1
        self._restarts[worker] += 1
        self._counters["active"][worker] = 0
        self.set_worker_state(worker, WorkerState.DEAD)

    def worker_state(self, worker: int) -> WorkerState:
        """Return the worker's state."""
        return WorkerState(self._state[worker])

    def ready_workers(self) -> list[int]:
        """Return the workers that take requests."""
        return [worker for worker in range(self.workers) if self._state[worker] == WorkerState.READY]

    def precision(self) -> str:
        """Return the precision of the first worker's first model."""
        return PRECISIONS[self._precision[0]]

    def engine_notes(self) -> list[str]:
        """Return what the first worker's engine reports as unavailable, one sentence each."""
        return self._notes.value.decode(errors="ignore").splitlines()

    def seconds_since_heartbeat(self, worker: int) -> float:
        """Return the seconds since the worker's last heartbeat."""
        return (time.monotonic_ns() - self._heartbeat[worker]) / 1e9

    def restarts(self) -> int:
        """Return how often workers were restarted."""
        return sum(self._restarts)

    def total(self, name: str) -> int:
        """Return one counter's sum over all workers."""
        return sum(self._counters[name])


class CheckpointList:
    """The checkpoints that workers hold: folders by key. A key names one version of a checkpoint's files.

    The HTTP process writes the list and every worker follows it; `version` is odd while the list is being written.
    """

    def __init__(self, folders: Mapping[str, str], workers: int) -> None:
        array = mp.get_context("spawn").RawArray
        self._text = array("c", CHECKPOINT_LIST_BYTES)
        self._version = array("q", 1)
        self._applied = array("q", workers)
        self._failed = array("q", workers)
        self.write(folders)

    def write(self, folders: Mapping[str, str]) -> int:
        """Replace the list; return its version. Raises ResonanceError when it is too long."""
        data = json.dumps(dict(folders)).encode()
        if len(data) >= CHECKPOINT_LIST_BYTES:
            raise ResonanceError(
                f"The list of checkpoints takes {len(data)} bytes; there is room for {CHECKPOINT_LIST_BYTES - 1}."
            )
        self._version[0] += 1
        self._text.value = data
        self._version[0] += 1
        return self._version[0]

    def version(self) -> int:
        """Return the current version."""
        return self._version[0]

    def read(self) -> tuple[int, dict[str, str]] | None:
        """Return the current version and list; None while it is being written."""
        version = self._version[0]
        data = self._text.value
        if version % 2 or version != self._version[0]:
            return None
        return version, json.loads(data)

    def report(self, worker: int, version: int, *, failed: bool) -> None:
        """Record that a worker has applied a version, or that it could not load a checkpoint that is new in it."""
        if failed:
            self._failed[worker] = version
        self._applied[worker] = version

    def has_applied(self, worker: int, version: int) -> bool:
        """Return whether a worker has applied this version or a later one."""
        return self._applied[worker] >= version

    def has_failed(self, worker: int, version: int) -> bool:
        """Return whether a worker could not load a checkpoint that was new in this version."""
        return self._failed[worker] == version
