"""The HTTP process's end of the line to the workers: hand in a job, read what becomes of it, take it back.

It is the one LitSpec of the server, so that LitServe connects it to the jobs' line and the response buffer. It knows
jobs and events, and nothing of HTTP.
"""

import asyncio
import pickle
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from litserve.specs.base import LitSpec
from litserve.utils import ResponseBufferItem

from serve.workers.engine_loop import STEP
from serve.workers.messages import Event, Failure, Finished, Idle, Job, Prompt, Token
from serve.workers.shared_state import Lease, LeaseTable, WorkerState
from serve.workers.transport import Jobs

if TYPE_CHECKING:
    from litserve import LitServer

LOST = Failure(503, "worker_lost", "The model's process died while it was answering; please send the request again.")
LATE = Failure(504, "timeout", "The answer took longer than the server allows.")
ENDING = Failure(503, "shutting_down", "The server is shutting down, and the answer took longer than it waits.")
IDLE_AFTER = 15.0  # seconds without an event until a stream is told to show that it lives
LATE_BY = 2.0  # seconds past the deadline that a worker has to say so itself
PAUSE_AT, RESUME_AT = 256, 64  # events that wait for whoever writes an answer down


class Full(Exception):
    """All places of the server are taken."""


class Answer:
    """The events of one job, as they come; `close()` gives its place back and stops the work that is left.

    When many wait to be read the job pauses, until few do.
    """

    def __init__(self, spec: "ApiSpec", model: str, lease: Lease, deadline: float) -> None:
        self.model, self.lease, self.deadline = model, lease, deadline
        self.job = b""  # as it was handed in
        self.epochs = 0  # the table's, when the job was handed in
        self.heard_at = time.monotonic()
        self.sent_at: float | None = None  # these are of the monotonic clock, in seconds
        self.claimed_at: float | None = None  # known once the place is given back
        self.first_at: float | None = None
        self.failure: Failure | None = None
        self.key = b""  # the hash of the API key that asked for it
        self.failed = asyncio.Event()  # set with `failure`
        self.ended = False  # nothing is computed for it any more
        self._paused = False
        self._spec = spec
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def add(self, event: Event) -> None:
        """Called by the inbox for each event of this job; what follows its last one is passed over."""
        if self.ended:
            return
        self.heard_at = time.monotonic()
        if self.first_at is None and isinstance(event, Token):
            self.first_at = self.heard_at
        elif isinstance(event, Failure):
            self.failure = event
            self.failed.set()
        if isinstance(event, Finished | Failure):
            self.ended, self.claimed_at = True, self._spec.table.claimed_at(self.lease)
        self._events.append(event)
        self._arrived.set()
        if len(self._events) >= PAUSE_AT and not self._paused:
            self._pause(True)

    def refuse(self, failure: Failure) -> None:
        """End it with this failure, in place of what nobody has taken yet; if anything is left to take."""
        if self.ended and not self._events:
            return
        self._events.clear()
        self.ended = False
        self.add(failure)

    async def events(self) -> AsyncIterator[Event]:
        """All events, the last being Finished or a Failure."""
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
        """Give the place back; what is unfinished stops before the worker's next step. Twice is harmless."""
        self._spec.close(self)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._spec.table.pause(self.lease, paused=paused)


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
        self._waiting: dict[str, Answer] = {}  # whose jobs found no room on the line
        self._jobs: Jobs | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"response_buffer": None, "request_queue": None, "_jobs": None, "inbox": None}

    @property
    def stream(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # LitSpec says Literal[False]
        """Every answer comes in pieces."""
        return True

    def setup(self, server: "LitServer") -> None:
        """Connect to the server's lines; LitServe calls it before it starts a worker."""
        super().setup(server)
        self._jobs = cast(Jobs, self.request_queue)
        inbox: Any = self.inbox  # for both of LitServe's: it is read by this class alone
        server.response_buffer[STEP] = ResponseBufferItem(event=inbox, response_queue=inbox)

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        """Nothing: requests arrive ready for the engine."""
        return request

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        """Nothing: events are written by the endpoints."""
        return output

    def reserve(self, model: str, timeout: float) -> Answer:
        """Take one of the server's places for an answer of a model, which stays as long. Raises Full; never waits."""
        lease = self.table.acquire()
        if lease is None:
            raise Full
        answer = self.inbox.answers[lease.uid] = Answer(self, model, lease, time.monotonic() + timeout)
        return answer

    def send(self, answer: Answer, prompts: list[Prompt]) -> None:
        """Hand a job to the workers, in a place that was reserved for it."""
        answer.job = pickle.dumps(Job(answer.lease, answer.model, answer.deadline, prompts))
        answer.sent_at = time.monotonic()
        self._hand_in(answer)

    def close(self, answer: Answer) -> None:
        """Give an answer's place back; what is unfinished stops before the worker's next step. Twice is harmless."""
        if self.inbox.answers.pop(answer.lease.uid, None) is not None:
            self._waiting.pop(answer.lease.uid, None)
            answer.claimed_at = answer.claimed_at or self.table.claimed_at(answer.lease)
            answer.ended = True
            self.table.release(answer.lease)

    def asks_for(self, model: str) -> bool:
        """Whether a model of this key has an answer to give or to begin."""
        return any(answer.model == model and not answer.ended for answer in self.inbox.answers.values())

    def undelivered(self) -> int:
        """How many answers hold their places for clients that have still to read them."""
        return sum(answer.ended for answer in self.inbox.answers.values())

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
                if answer.ended:
                    continue
                if self.table.orphaned(answer.lease):
                    answer.add(LOST)
                elif now > answer.deadline + LATE_BY:
                    answer.add(LATE)
                elif now - answer.heard_at > IDLE_AFTER:
                    answer.add(Idle())
                if answer.job and not self.table.claimed(answer.lease) and answer.epochs != self.table.epochs():
                    self._hand_in(answer)  # a worker that dies may take a job with it that it has not claimed yet

    def _hand_in(self, answer: Answer) -> None:
        answer.epochs = self.table.epochs()
        self._waiting[answer.lease.uid] = answer
        self._hand_in_waiting()

    def _hand_in_waiting(self) -> None:
        assert self._jobs is not None
        while self._waiting:
            uid, answer = next(iter(self._waiting.items()))
            if not self._jobs.put(answer.job):
                self._jobs.when_there_is_room(self._hand_in_waiting)
                return
            del self._waiting[uid]
