"""The HTTP process's end of the line to the workers: hand in a job, read what becomes of it, take it back.

It is the one LitSpec of the server, so that LitServe connects it to the request queue and the response buffer. It
knows jobs and events, and nothing of HTTP.
"""

import asyncio
import pickle
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from litserve.specs.base import LitSpec
from litserve.utils import ResponseBufferItem

from serve.inference.leases import Lease, LeaseTable, WorkerState
from serve.inference.loop import STEP
from serve.inference.wire import Event, Failure, Finished, Idle, Job, Prompt, Token

if TYPE_CHECKING:
    from litserve import LitServer

LOST = Failure(503, "worker_lost", "The model's process died while it was answering; please send the request again.")
LATE = Failure(504, "timeout", "The answer took longer than the server allows.")
ENDING = Failure(503, "shutting_down", "The server is shutting down, and the answer took longer than it waits.")
IDLE_AFTER = 15.0  # seconds without an event until a stream is told to show that it lives
LATE_BY = 2.0  # seconds past the deadline that a worker has to say so itself


class Full(Exception):
    """All places of the server are taken."""


class Answer:
    """The events of one job, as they come; `close()` gives its place back and stops the work that is left."""

    def __init__(self, table: LeaseTable, inbox: "Inbox", lease: Lease, deadline: float) -> None:
        self.lease, self.deadline = lease, deadline
        self.message: tuple[Any, ...] | None = None  # what was put on the queue
        self.epochs = 0  # the table's, when it was put there
        self.heard_at = time.monotonic()
        self.sent_at: float | None = None  # these are of the monotonic clock, in seconds
        self.claimed_at: float | None = None  # known once the place is given back
        self.first_at: float | None = None
        self.failure: Failure | None = None
        self._table, self._inbox = table, inbox
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def add(self, event: Event) -> None:
        """Called by the inbox for each event of this job."""
        self.heard_at = time.monotonic()
        if self.first_at is None and isinstance(event, Token):
            self.first_at = self.heard_at
        elif isinstance(event, Failure):
            self.failure = event
        self._events.append(event)
        self._arrived.set()

    async def events(self) -> AsyncIterator[Event]:
        """All events, the last being Finished or a Failure."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._events:
                event = self._events.popleft()
                yield event
                if isinstance(event, Finished | Failure):
                    return

    def close(self) -> None:
        """Give the place back; what is unfinished stops before the worker's next step. Twice is harmless."""
        if self._inbox.answers.pop(self.lease.uid, None) is not None:
            self.claimed_at = self._table.claimed_at(self.lease)
            self._table.release(self.lease)


class Inbox:
    """Hands the events of each step to the answers they belong to.

    LitServe's reader finds it in its response buffer under the name of the step, and treats it as a queue and as
    an event; so one message serves all requests of a step.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}

    def append(self, response: tuple[bytes, str]) -> None:
        """Take one message of a worker."""
        events: list[tuple[str, Event]] = pickle.loads(response[0])
        for uid, event in events:
            answer = self.answers.get(uid)
            if answer is not None:
                answer.add(event)

    def set(self) -> None:
        """Nothing: `append` has told everybody."""


class ApiSpec(LitSpec):
    """The line to the workers."""

    def __init__(self, table: LeaseTable) -> None:
        super().__init__()
        self.api_path = "/v1/chat/completions"  # LitServe names the request queue after it
        self.table = table
        self.inbox = Inbox()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"response_buffer": None, "inbox": None}

    @property
    def stream(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # LitSpec says Literal[False]
        """Every answer comes in pieces."""
        return True

    def setup(self, server: "LitServer") -> None:
        """Connect to the server's queues; LitServe calls it before it starts a worker."""
        super().setup(server)
        server.response_buffer[STEP] = ResponseBufferItem(event=self.inbox, response_queue=self.inbox)  # type: ignore[arg-type]

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        """Nothing: requests arrive ready for the engine."""
        return request

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        """Nothing: events are written by the endpoints."""
        return output

    def reserve(self, timeout: float) -> Answer:
        """Take one of the server's places. Raises Full when there is none left; never waits."""
        lease = self.table.acquire()
        if lease is None:
            raise Full
        answer = self.inbox.answers[lease.uid] = Answer(self.table, self.inbox, lease, time.monotonic() + timeout)
        return answer

    def send(self, answer: Answer, model: str, prompts: list[Prompt]) -> None:
        """Hand a job to the workers, in a place that was reserved for it."""
        job = pickle.dumps(Job(answer.lease, model, answer.deadline, prompts))
        answer.sent_at = time.monotonic()
        answer.message = (0, answer.lease.uid, answer.sent_at, job)
        answer.epochs = self.table.epochs()
        self._put(answer)

    def ready(self) -> bool:
        """Whether some worker takes jobs."""
        return any(self.table.state(worker) == WorkerState.READY for worker in range(self.table.workers))

    def end(self) -> None:
        """End all answers that are under way: the server waits for them no longer."""
        for answer in list(self.inbox.answers.values()):
            answer.add(ENDING)

    async def watch(self) -> None:
        """Notice what no worker can report: its own death, time that ran out, streams gone quiet. Runs for ever."""
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            for answer in list(self.inbox.answers.values()):
                if self.table.orphaned(answer.lease):
                    answer.add(LOST)
                elif now > answer.deadline + LATE_BY:
                    answer.add(LATE)
                elif now - answer.heard_at > IDLE_AFTER:
                    answer.add(Idle())
                if answer.message and not self.table.claimed(answer.lease) and answer.epochs != self.table.epochs():
                    # A worker that dies while it waits on the queue may take a message with it.
                    answer.epochs = self.table.epochs()
                    self._put(answer)

    def _put(self, answer: Answer) -> None:
        self.request_queue.put(answer.message)  # type: ignore[union-attr]
        self.table.announce()
