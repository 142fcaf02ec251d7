"""Server-sent events that survive a broken connection: numbered, kept for a while, replayed on demand.

An answer is written into an EventLog by a task of its own; responses read from the log. A log is bounded in bytes:
its writer waits while too much is unread. It knows events as text, and nothing of what they say.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.generation.delivery import SEND_BYTES, deliver

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
LINE_BYTES = 120  # what Python takes for a line beside its text


@dataclass(slots=True, eq=False)
class Cursor:
    """How far one reader has come: the number of lines, since the log began, that it has sent."""

    line: int
    nbytes: int


class EventLog:
    """The events of one answer so far, the newest `most_bytes` of them, of which up to half may be unread.

    `leave_after` is how long its writing goes on without a reader, in seconds. `delivered` is called once: when a
    reader has all but the last piece, or when nobody is waited for any more.
    """

    def __init__(
        self,
        name: str,
        owner: str,
        leave_after: float,
        most_bytes: int = 1 << 20,
        delivered: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.owner, self.most_bytes = name, owner, most_bytes
        self.done = self.settled = self.forgotten = False
        self._leave_after, self._delivered = leave_after, delivered
        self._lines: list[bytes] = []
        self._numbers: list[int] = []  # the number of the last event up to and including each line
        self._dropped = Cursor(0, 0)  # what is not kept any more
        self._dropped_number = 0  # of the last event in it
        self._written = Cursor(0, 0)
        self._last = 0  # the number of the last event
        self._cursors: set[Cursor] = set()
        self._left_at = Cursor(0, 0)  # where the last reader was when it went
        self._changed = asyncio.Event()
        self._readers = 0
        self._had_reader = False
        self._writer: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None

    @property
    def nbytes(self) -> int:
        """What the log takes of memory."""
        return self._written.nbytes - self._dropped.nbytes

    # Writing

    def add(self, data: str, event: str | None = None) -> None:
        """Add an event; `data` is one line. Never waits: whoever adds many lets `room` do that."""
        self._last += 1
        head = f"event: {event}\n" if event else ""
        self._append(f"id: {self.name}:{self._last}\n{head}data: {data}\n\n")

    def comment(self) -> None:
        """Add a line that clients pass over; it keeps the connection from looking dead."""
        self._append(": keep-alive\n\n")

    @property
    def full(self) -> bool:
        """Whether so much is unread that the writer should wait."""
        return 2 * self.nbytes >= self.most_bytes and 2 * self._unread() >= self.most_bytes

    async def room(self) -> None:
        """Wait until the log's readers have caught up."""
        while self.full and not self.forgotten:
            await self._changed.wait()

    def write_with(self, write: Callable[["EventLog"], Awaitable[None]]) -> None:
        """Let `write` fill the log in the background; the log is done when it returns or is cancelled."""

        async def run() -> None:
            try:
                await write(self)
            finally:
                self.done = True
                self._wake()
                if self._had_reader and not self._readers and self._leaving is None:
                    self.settle()

        self._writer = asyncio.create_task(run(), name=f"answer {self.name}")

    async def finished(self) -> None:
        """Wait until nothing is written any more."""
        if self._writer is not None:
            await asyncio.wait({self._writer})

    def _append(self, lines: str) -> None:
        line = lines.encode()
        self._lines.append(line)
        self._numbers.append(self._last)
        self._written.line += 1
        self._written.nbytes += len(line) + LINE_BYTES
        if self.nbytes > self.most_bytes:
            self._drop_read()
        self._wake()

    def _drop_read(self) -> None:
        """Let go of the oldest lines that have been read, and of some more, so that this is not done for each line."""
        wanted = self.nbytes - self.most_bytes * 7 // 8
        most = self._slowest().line - self._dropped.line
        count = size = 0
        while count < most and size < wanted:
            size += len(self._lines[count]) + LINE_BYTES
            count += 1
        if count:
            self._dropped_number = self._numbers[count - 1]
        del self._lines[:count], self._numbers[:count]
        self._dropped.line += count
        self._dropped.nbytes += size

    def _unread(self) -> int:
        return self._written.nbytes - self._slowest().nbytes

    def _slowest(self) -> Cursor:
        return min(self._cursors, key=lambda cursor: cursor.line) if self._cursors else self._left_at

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # Reading

    def keeps_after(self, number: int) -> bool:
        """Whether every event past a number is still here, or to come."""
        return not self.forgotten and number >= self._dropped_number

    async def read(self, send: Callable[[bytes], Awaitable[None]], after: int = 0) -> None:
        """Send all events past number `after` that are kept, as they come, until the log is done or forgotten."""
        cursor = self._cursor(after)
        self._cursors.add(cursor)
        try:
            while not self.forgotten:
                changed = self._changed
                lines, size = self._next_lines(cursor)
                last = self.done and cursor.line + len(lines) == self._written.line
                if last and not self.settled:
                    await send(b"")  # waits until the connection has taken what was sent before
                    self.settle()
                if lines:
                    await send(b"".join(lines))
                    cursor.line, cursor.nbytes = cursor.line + len(lines), cursor.nbytes + size
                    self._wake()
                elif last:
                    return
                else:
                    await changed.wait()
        finally:
            self._cursors.discard(cursor)
            if cursor.line > self._left_at.line:
                self._left_at = cursor
            self._wake()

    def _cursor(self, after: int) -> Cursor:
        kept = self._dropped.line
        skipped = next((i for i, number in enumerate(self._numbers) if number > after), len(self._lines))
        size = sum(len(line) + LINE_BYTES for line in self._lines[:skipped])
        return Cursor(kept + skipped, self._dropped.nbytes + size)

    def _next_lines(self, cursor: Cursor) -> tuple[list[bytes], int]:
        """What a reader is sent next, and what it counts for."""
        start = cursor.line - self._dropped.line
        if self._written.nbytes - cursor.nbytes <= SEND_BYTES:  # all of it
            return self._lines[start:], self._written.nbytes - cursor.nbytes
        lines: list[bytes] = []
        size = 0
        while start + len(lines) < len(self._lines) and size < SEND_BYTES:
            lines.append(self._lines[start + len(lines)])
            size += len(lines[-1]) + LINE_BYTES
        return lines, size

    def join(self) -> None:
        """A reader has come."""
        self._readers += 1
        self._had_reader = True
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def leave(self) -> None:
        """A reader has gone; when it was the last, its answer is waited with for a while, and then given up."""
        self._readers -= 1
        if self._readers or (self.done and self.settled):
            return
        if self._leave_after:
            self._leaving = asyncio.get_running_loop().call_later(self._leave_after, self._give_up)
        else:
            self._give_up()

    def _give_up(self) -> None:
        self._leaving = None
        if self._writer is not None and not self.done:
            self._writer.cancel()  # its end settles the rest
        else:
            self.settle()

    # What becomes of it

    @property
    def is_read(self) -> bool:
        """Whether there is a reader."""
        return self._readers > 0

    def settle(self) -> None:
        """Nobody is waited for any more: the answer's place is free. Twice is harmless."""
        if not self.settled:
            self.settled = True
            self._delivered()

    def forget(self) -> None:
        """Let go of all events; readers end."""
        self.forgotten = True
        self._lines.clear()
        self._numbers.clear()
        self._dropped = Cursor(self._written.line, self._written.nbytes)
        self._wake()


class EventStream(Response):
    """A response that reads a log; when the client goes away, or takes too long in all, the log is told at once."""

    media_type = "text/event-stream"

    def __init__(self, log: EventLog, after: int = 0, seconds: float | None = None) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self.log, self.after, self.seconds = log, after, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the log's events until it is done, the client has gone, or the time is over."""

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self.log.read(
                lambda data: send({"type": "http.response.body", "body": data, "more_body": True}), self.after
            )
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        self.log.join()
        try:
            await deliver(write(), scope, receive, self.seconds)
        finally:
            self.log.leave()
