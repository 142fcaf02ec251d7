"""The HTTP process's client of the workers: reserve a slot, submit a request, read its events, cancel it.

It knows requests and events, and nothing of HTTP.
"""

import asyncio
import pickle
import time
from collections import deque
from collections.abc import AsyncIterator

from serve.workers.messages import (
    TIMED_OUT,
    Event,
    EventBatch,
    Failure,
    Finished,
    Idle,
    PromptInput,
    Token,
    WorkerRequest,
)
from serve.workers.shared_state import RequestSlot, SharedState
from serve.workers.transport import RequestQueue

WORKER_LOST = Failure(
    503, "worker_lost", "The model's process died while it was answering; please send the request again."
)
SHUTTING_DOWN = Failure(503, "shutting_down", "The server is shutting down, and the answer took longer than it waits.")
IDLE_AFTER = 15.0  # seconds without an event until an Idle event is added
TIMEOUT_SLACK = 2.0  # seconds past the deadline in which the worker itself reports the time-out
PAUSE_AT, RESUME_AT = 256, 64  # unread events


class NoFreeSlot(Exception):
    """All request slots of the server are in use."""


class RequestHandle:
    """The events of one request, as they come; `close()` frees its slot and stops the work that is left.

    The request pauses while many of its events are unread. Times are of the monotonic clock in seconds.
    """

    def __init__(self, client: "WorkerClient", model: str, slot: RequestSlot, deadline: float) -> None:
        self.model, self.slot, self.deadline = model, slot, deadline
        self.payload = b""  # the pickled WorkerRequest, once it is submitted
        self.deaths_at_send = 0  # of workers, when the request was last sent
        self.last_event_at = time.monotonic()
        self.sent_at: float | None = None
        self.claimed_at: float | None = None  # known once the request has ended
        self.first_at: float | None = None  # the first token
        self.failure: Failure | None = None
        self.key = b""  # the hash of the API key that the request came with
        self.failed = asyncio.Event()  # set with `failure`
        self.ended = False  # nothing more is computed for it
        self._paused = False
        self._client = client
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def add(self, event: Event) -> None:
        """Append an event; events after the last one are ignored."""
        if self.ended:
            return
        self.last_event_at = time.monotonic()
        if self.first_at is None and isinstance(event, Token):
            self.first_at = self.last_event_at
        elif isinstance(event, Failure):
            self.failure = event
            self.failed.set()
        if isinstance(event, Finished | Failure):
            self.ended, self.claimed_at = True, self._client.state.claimed_at(self.slot)
        self._events.append(event)
        self._arrived.set()
        if len(self._events) >= PAUSE_AT and not self._paused:
            self._pause(True)

    def fail(self, failure: Failure) -> None:
        """Replace all unread events by this failure; does nothing when a request has ended and all of it is read."""
        if self.ended and not self._events:
            return
        self._events.clear()
        self.ended = False
        self.add(failure)

    async def events(self) -> AsyncIterator[Event]:
        """Yield all events; the last is Finished or a Failure."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._events:
                event = self._events.popleft()
                if self._paused and len(self._events) <= RESUME_AT:
                    self._pause(False)
                yield event
                if isinstance(event, Finished | Failure):
                    return

    def close(self) -> None:
        """Free the slot; unfinished work stops before the worker's next step. A second call does nothing."""
        if self._client.forget(self):
            self.claimed_at = self.claimed_at or self._client.state.claimed_at(self.slot)
            self.ended = True
            self._client.state.release(self.slot)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._client.state.pause(self.slot, paused=paused)


class WorkerClient:
    """Sends requests to the workers and hands each event to its request."""

    def __init__(self, state: SharedState) -> None:
        self.state = state
        self.queue: RequestQueue | None = None  # set by the server when it starts
        self.requests: dict[str, RequestHandle] = {}  # by uid, while they hold a slot
        self._unsent: dict[str, RequestHandle] = {}  # waiting for space in the queue

    def reserve(self, model: str, timeout: float) -> RequestHandle:
        """Reserve a slot for a request to a model, which has `timeout` seconds. Raises NoFreeSlot; never waits."""
        slot = self.state.acquire()
        if slot is None:
            raise NoFreeSlot
        handle = self.requests[slot.uid] = RequestHandle(self, model, slot, time.monotonic() + timeout)
        return handle

    def submit(self, handle: RequestHandle, prompts: list[PromptInput]) -> None:
        """Send a request to the workers, in the slot that was reserved for it."""
        handle.payload = pickle.dumps(WorkerRequest(handle.slot, handle.model, handle.deadline, prompts))
        handle.sent_at = time.monotonic()
        self._send(handle)

    def forget(self, handle: RequestHandle) -> bool:
        """Deliver no more events to a request; returns whether it was known."""
        self._unsent.pop(handle.slot.uid, None)
        return self.requests.pop(handle.slot.uid, None) is not None

    def deliver(self, events: EventBatch) -> None:
        """Hand the events of one worker step to their requests."""
        for uid, event in events:
            handle = self.requests.get(uid)
            if handle is not None:
                handle.add(event)

    def uses_model(self, model: str) -> bool:
        """Return whether a request to the model with this key is unfinished."""
        return any(handle.model == model and not handle.ended for handle in self.requests.values())

    def undelivered(self) -> int:
        """Return how many complete answers hold their slots because their clients have not read them yet."""
        return sum(handle.ended for handle in self.requests.values())

    def end_all(self) -> None:
        """End all unfinished requests: the server's grace time is over."""
        for handle in list(self.requests.values()):
            handle.add(SHUTTING_DOWN)

    async def watch(self) -> None:
        """Detect what no worker reports: dead workers, expired deadlines, silent streams. Runs for ever."""
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            for handle in list(self.requests.values()):
                if handle.ended:
                    continue
                if self.state.is_orphaned(handle.slot):
                    handle.add(WORKER_LOST)
                elif now > handle.deadline + TIMEOUT_SLACK:
                    handle.add(TIMED_OUT)
                elif now - handle.last_event_at > IDLE_AFTER:
                    handle.add(Idle())
                unclaimed = handle.payload and not self.state.is_claimed(handle.slot)
                if unclaimed and handle.deaths_at_send != self.state.worker_deaths():
                    self._send(handle)  # a worker may have died with a request that it had not claimed yet

    def _send(self, handle: RequestHandle) -> None:
        handle.deaths_at_send = self.state.worker_deaths()
        self._unsent[handle.slot.uid] = handle
        self._send_unsent()

    def _send_unsent(self) -> None:
        assert self.queue is not None
        while self._unsent:
            uid, handle = next(iter(self._unsent.items()))
            if not self.queue.put(handle.payload):
                self.queue.call_when_writable(self._send_unsent)
                return
            del self._unsent[uid]
