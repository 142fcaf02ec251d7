"""The memory that the HTTP process and the inference workers share: leases, heartbeats, counters.

It knows numbers only. Every cell has one writer at a time, so nothing locks:

- the HTTP process writes `seq` (which request holds a slot; 0: none) and `paused` (which one is to wait; 0: none);
- a worker writes `owner` (which request it has taken), when it did, its heartbeat and its counters;
- the main process writes a worker's `epoch`, `state` and `restarts` while that worker does not run.

Releasing a lease is the cancellation: the worker drops what is no longer live before its next step.
"""

import multiprocessing as mp
import time
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

_OWNER_BITS = 24  # of `owner`: the worker's number in 8 bits, its epoch in 16; the request's number above


class WorkerState(IntEnum):
    """Where a worker is in its life."""

    LOADING = 0
    READY = 1
    FAILED = 2  # it could not load a model
    DEAD = 3  # its process is gone


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to one of the server's places, held by one request."""

    slot: int
    seq: int

    @property
    def uid(self) -> str:
        """The request's name in the messages between processes."""
        return f"{self.slot}.{self.seq}"


PRECISIONS = ("fp32", "bf16", "int8", "int4")

COUNTERS = (
    "active",  # requests that a worker has taken and not finished
    "cancelled",  # requests that were dropped because the client had gone or the time was over
    "generated_tokens",
    "prompt_tokens",
    "cached_tokens",  # of the prompt tokens, those that did not have to be computed
    "steps",
    "batch",  # answers that the last step went on with
)


class LeaseTable:
    """`slots` places for requests, shared with `workers` inference workers."""

    def __init__(self, slots: int, workers: int) -> None:
        array = mp.get_context("spawn").RawArray
        self.slots, self.workers = slots, workers
        self._seq = array("q", slots)
        self._paused = array("q", slots)
        self._owner = array("q", slots)
        self._claimed = array("q", slots)
        self._epoch = array("q", workers)
        self._state = array("q", workers)
        self._beat = array("q", workers)
        self._restarts = array("q", workers)
        self._precision = array("q", workers)
        self._counters = {name: array("q", workers) for name in COUNTERS}
        self._free: deque[int] | None = None
        self._issued = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_free": None}

    # The HTTP process.

    def acquire(self) -> Lease | None:
        """Take a place; None when all are taken."""
        if self._free is None:
            self._free = deque(range(self.slots))
        if not self._free:
            return None
        self._issued += 1
        slot = self._free.popleft()
        self._seq[slot] = self._issued
        return Lease(slot, self._issued)

    def release(self, lease: Lease) -> None:
        """Give a place back, finished or not; doing it twice is harmless."""
        if self._free is not None and self._seq[lease.slot] == lease.seq:
            self._seq[lease.slot] = 0
            self._free.append(lease.slot)

    def pause(self, lease: Lease, *, paused: bool) -> None:
        """Let a request wait, or go on; a worker looks before each step."""
        self._paused[lease.slot] = lease.seq if paused else 0

    def taken(self) -> int:
        """How many places are held."""
        return 0 if self._free is None else self.slots - len(self._free)

    def claimed(self, lease: Lease) -> bool:
        """Whether a worker has taken the request."""
        return self._owner[lease.slot] >> _OWNER_BITS == lease.seq

    def claimed_at(self, lease: Lease) -> float | None:
        """When a worker took the request, in seconds of the monotonic clock; None when none has."""
        return self._claimed[lease.slot] / 1e9 if self.claimed(lease) else None

    def orphaned(self, lease: Lease) -> bool:
        """Whether the worker that took the request has died since."""
        owner = self._owner[lease.slot]
        if owner >> _OWNER_BITS != lease.seq:
            return False
        worker, epoch = (owner & 0xFF), (owner >> 8) & 0xFFFF
        return self._epoch[worker] & 0xFFFF != epoch

    def epochs(self) -> int:
        """A number that changes whenever a worker has died."""
        return sum(self._epoch)

    # A worker.

    def live(self, lease: Lease) -> bool:
        """Whether the request is still wanted."""
        return self._seq[lease.slot] == lease.seq

    def paused(self, lease: Lease) -> bool:
        """Whether the request is to wait."""
        return self._paused[lease.slot] == lease.seq

    def claim(self, lease: Lease, worker: int) -> None:
        """Say that this worker has taken the request."""
        self._claimed[lease.slot] = time.monotonic_ns()
        self._owner[lease.slot] = lease.seq << _OWNER_BITS | (self._epoch[worker] & 0xFFFF) << 8 | worker

    def beat(self, worker: int) -> None:
        """Show that the worker is alive."""
        self._beat[worker] = time.monotonic_ns()

    def count(self, name: str, worker: int, amount: int = 1) -> None:
        """Raise one of the worker's counters."""
        self._counters[name][worker] += amount

    def set(self, name: str, worker: int, value: int) -> None:
        """Set one of the worker's counters."""
        self._counters[name][worker] = value

    def set_precision(self, worker: int, precision: str) -> None:
        """Say what the worker's first model computes in."""
        self._precision[worker] = PRECISIONS.index(precision) if precision in PRECISIONS else 0

    # The main process, and everybody who asks.

    def set_state(self, worker: int, state: WorkerState) -> None:
        """Say where the worker is in its life."""
        self._beat[worker] = time.monotonic_ns()
        self._state[worker] = state

    def bury(self, worker: int) -> None:
        """Note that the worker's process is gone: all that it had taken is orphaned."""
        self._epoch[worker] += 1
        self._restarts[worker] += 1
        self._counters["active"][worker] = 0
        self.set_state(worker, WorkerState.DEAD)

    def state(self, worker: int) -> WorkerState:
        """Where the worker is in its life."""
        return WorkerState(self._state[worker])

    def precision(self) -> str:
        """What the first worker's first model computes in."""
        return PRECISIONS[self._precision[0]]

    def silence(self, worker: int) -> float:
        """Seconds since the worker last showed that it is alive."""
        return (time.monotonic_ns() - self._beat[worker]) / 1e9

    def restarts(self) -> int:
        """How often a worker had to be started again."""
        return sum(self._restarts)

    def total(self, name: str) -> int:
        """One counter over all workers."""
        return sum(self._counters[name])
