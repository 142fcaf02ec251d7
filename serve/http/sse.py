"""Server-sent events that survive a broken connection: numbered, kept for a while, replayed on demand.

An answer is written into an EventLog by a task of its own; responses read from the log. It knows events as text, and
nothing of what they say.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

KEPT_SECONDS = 60.0
KEPT_LOGS = 512
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventLog:
    """The events of one answer so far. `leave_after` is how long its writing goes on without a reader, in seconds."""

    def __init__(self, name: str, owner: str, leave_after: float) -> None:
        self.name, self.owner = name, owner
        self.done = False
        self._leave_after = leave_after
        self._lines: list[bytes] = []
        self._numbers: list[int] = []  # the number of the last event up to and including each line
        self._changed = asyncio.Event()
        self._readers = 0
        self._writer: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None

    def add(self, data: str, event: str | None = None) -> None:
        """Add an event; `data` is one line."""
        number = (self._numbers[-1] if self._numbers else 0) + 1
        head = f"event: {event}\n" if event else ""
        self._append(f"id: {self.name}:{number}\n{head}data: {data}\n\n", number)

    def comment(self) -> None:
        """Add a line that clients pass over; it keeps the connection from looking dead."""
        self._append(": keep-alive\n\n", self._numbers[-1] if self._numbers else 0)

    def _append(self, lines: str, number: int) -> None:
        self._lines.append(lines.encode())
        self._numbers.append(number)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def write_with(self, write: Callable[["EventLog"], Awaitable[None]]) -> None:
        """Let `write` fill the log in the background; the log is done when it returns or is cancelled."""

        async def run() -> None:
            try:
                await write(self)
            finally:
                self.done = True
                self._wake()

        self._writer = asyncio.create_task(run(), name=f"answer {self.name}")

    async def read(self, send: Callable[[bytes], Awaitable[None]], after: int = 0) -> None:
        """Send all events past number `after`, as they come, until the log is done."""
        position = next((i for i, number in enumerate(self._numbers) if number > after), len(self._lines))
        while True:
            changed = self._changed
            if position < len(self._lines):
                waiting = b"".join(self._lines[position:])
                position = len(self._lines)
                await send(waiting)
            elif self.done:
                return
            else:
                await changed.wait()

    def join(self) -> None:
        """A reader has come."""
        self._readers += 1
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def leave(self) -> None:
        """A reader has gone; when it was the last of an unfinished answer, the writing stops."""
        self._readers -= 1
        if self._readers or self.done or self._writer is None:
            return
        if self._leave_after:
            self._leaving = asyncio.get_running_loop().call_later(self._leave_after, self._writer.cancel)
        else:
            self._writer.cancel()

    async def finished(self) -> None:
        """Wait until nothing is written any more."""
        if self._writer is not None:
            await asyncio.wait({self._writer})


class EventLogs:
    """The logs that can be read again: those being written, and those that ended a moment ago."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, EventLog] = OrderedDict()

    def add(self, log: EventLog) -> None:
        """Keep a log until a while after its end; the oldest go when there are too many."""
        self._logs[log.name] = log
        while len(self._logs) > KEPT_LOGS:
            self._logs.popitem(last=False)

    def forget_later(self, log: EventLog) -> None:
        """The log has ended: keep it for a while."""
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._logs.pop, log.name, None)

    def find(self, name: str, owner: str) -> EventLog | None:
        """The log of that name, if it is the owner's."""
        log = self._logs.get(name)
        return log if log is not None and log.owner == owner else None


class EventStream(Response):
    """A response that reads a log; when the client goes away, the log is told at once."""

    media_type = "text/event-stream"

    def __init__(self, log: EventLog, after: int = 0) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self.log, self.after = log, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the log's events until it is done or the client has gone."""

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self.log.read(
                lambda data: send({"type": "http.response.body", "body": data, "more_body": True}), self.after
            )
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        self.log.join()
        tasks = {asyncio.create_task(write()), asyncio.create_task(gone())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self.log.leave()
            await asyncio.gather(*tasks, return_exceptions=True)
