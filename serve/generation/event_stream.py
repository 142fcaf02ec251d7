"""Server-sent events that survive a broken connection: numbered, kept for a while, replayed on request.

A task writes an answer's events into an EventStream; any number of responses read from it. A stream is bounded in
bytes: its writer waits while too much is unread. This module handles events as text and does not interpret them.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from serve.api.errors import ApiError, error_body, internal_error, server_full

SEND_BYTES = 32768  # handed to a connection at a time
CHUNK_OVERHEAD = 120  # bytes that Python takes for a chunk beside its text
KEPT_SECONDS = 60.0  # after a stream's end
CONVERSATION_SECONDS = 30.0  # that a stored conversation's answer goes on without a reader, by default
KEPT_STREAMS = 512
MAX_NUMBER_DIGITS = 12

Write = Callable[["EventStream"], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Position:
    """A position in a stream: how many chunks come before it, and their bytes."""

    chunk: int
    nbytes: int


class EventStream:
    """The newest `max_bytes` of an answer's events, of which up to half may be unread.

    The writer goes on for `resume_seconds` without a reader. `delivered` is called once: when a reader has all but the
    last piece, or when the server stops waiting for readers. A chunk is the text of one event or of one keep-alive.
    """

    def __init__(
        self,
        name: str,
        owner: str,
        resume_seconds: float,
        max_bytes: int = 1 << 20,
        delivered: Callable[[], None] = lambda: None,
        conversation: str | None = None,
    ) -> None:
        self.name, self.owner, self.max_bytes = name, owner, max_bytes
        self.conversation = conversation
        self.done = self.settled = self.discarded = False
        self._resume_seconds, self._delivered = resume_seconds, delivered
        self._chunks: list[bytes] = []
        self._numbers: list[int] = []  # the number of the last event up to and including each chunk
        self._start = Position(0, 0)  # of the oldest chunk that is kept
        self._end = Position(0, 0)
        self.last_dropped = 0  # the number of the last event that is not kept
        self._last_number = 0
        self._readers: set[Position] = set()
        self._last_read = Position(0, 0)  # of readers that have left
        self._change: asyncio.Event | None = None  # exists while something waits for it
        self._connections = 0
        self._was_connected = False
        self._writer: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def nbytes(self) -> int:
        """The memory that the stream takes."""
        return self._end.nbytes - self._start.nbytes

    # Writing

    def add(self, data: str, event: str | None = None) -> None:
        """Add an event; `data` is one line. Never waits: writers of many events call `wait_for_space`."""
        self._last_number += 1
        head = f"event: {event}\n" if event else ""
        self._append(f"id: {self.name}:{self._last_number}\n{head}data: {data}\n\n")

    def keep_alive(self) -> None:
        """Add a comment, which clients ignore, so that the connection does not look dead."""
        self._append(": keep-alive\n\n")

    @property
    def full(self) -> bool:
        """Whether so much is unread that the writer should wait."""
        return 2 * self.nbytes >= self.max_bytes and 2 * self._unread_bytes() >= self.max_bytes

    async def wait_for_space(self) -> None:
        """Wait until readers have caught up."""
        while self.full and not self.discarded:
            await self._wait_for_change()

    def write_with(self, write: Write) -> None:
        """Run `write` in the background; the stream is done when it returns or is cancelled."""

        async def run() -> None:
            try:
                await write(self)
            finally:
                self.done = True
                self._notify()
                if self._was_connected and not self._connections and self._expiry is None:
                    self.settle()

        self._writer = asyncio.create_task(run(), name=f"answer {self.name}")

    async def finished(self) -> None:
        """Wait for the end of the writer."""
        if self._writer is not None:
            await asyncio.wait({self._writer})

    async def stop(self) -> None:
        """Cancel the writer and wait for its end; a stream that is done stays as it is."""
        if self._writer is not None and not self.done:
            self._writer.cancel()
        await self.finished()

    def _append(self, text: str) -> None:
        chunk = text.encode()
        self._chunks.append(chunk)
        self._numbers.append(self._last_number)
        self._end.chunk += 1
        self._end.nbytes += len(chunk) + CHUNK_OVERHEAD
        if self.nbytes > self.max_bytes:
            self._drop_read_chunks()
        self._notify()

    def _drop_read_chunks(self) -> None:
        """Drop the oldest chunks that every reader has read, an eighth more than needed: not at every append."""
        excess = self.nbytes - self.max_bytes * 7 // 8
        read = self._slowest_reader().chunk - self._start.chunk
        count = size = 0
        while count < read and size < excess:
            size += len(self._chunks[count]) + CHUNK_OVERHEAD
            count += 1
        if count:
            self.last_dropped = self._numbers[count - 1]
        del self._chunks[:count], self._numbers[:count]
        self._start.chunk += count
        self._start.nbytes += size

    def _unread_bytes(self) -> int:
        return self._end.nbytes - self._slowest_reader().nbytes

    def _slowest_reader(self) -> Position:
        return min(self._readers, key=lambda position: position.chunk) if self._readers else self._last_read

    def _notify(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None

    async def _wait_for_change(self) -> None:
        if self._change is None:
            self._change = asyncio.Event()
        await self._change.wait()

    # Reading

    def can_replay(self, number: int) -> bool:
        """Return whether every event after this number is still kept, or to come."""
        return not self.discarded and number >= self.last_dropped

    async def read(self, send: Callable[[bytes], Awaitable[None]], after: int = 0) -> None:
        """Send all kept events after number `after`, as they come, until the stream is done or discarded."""
        position = self._position_after(after)
        self._readers.add(position)
        try:
            while not self.discarded:
                chunks, size = self._next_chunks(position)
                last = self.done and position.chunk + len(chunks) == self._end.chunk
                if last and not self.settled:
                    await send(b"")  # waits until the connection has taken the earlier pieces
                    self.settle()
                if chunks:
                    await send(b"".join(chunks))
                    position.chunk, position.nbytes = position.chunk + len(chunks), position.nbytes + size
                    self._notify()
                elif last:
                    return
                else:
                    await self._wait_for_change()
        finally:
            self._readers.discard(position)
            if position.chunk > self._last_read.chunk:
                self._last_read = position
            self._notify()

    def _position_after(self, number: int) -> Position:
        skipped = next((i for i, last in enumerate(self._numbers) if last > number), len(self._chunks))
        size = sum(len(chunk) + CHUNK_OVERHEAD for chunk in self._chunks[:skipped])
        return Position(self._start.chunk + skipped, self._start.nbytes + size)

    def _next_chunks(self, position: Position) -> tuple[list[bytes], int]:
        """Return the chunks that a reader is sent next, and their size."""
        first = position.chunk - self._start.chunk
        unread = self._end.nbytes - position.nbytes
        if unread <= SEND_BYTES:
            return self._chunks[first:], unread
        chunks: list[bytes] = []
        size = 0
        while first + len(chunks) < len(self._chunks) and size < SEND_BYTES:
            chunks.append(self._chunks[first + len(chunks)])
            size += len(chunks[-1]) + CHUNK_OVERHEAD
        return chunks, size

    def connect(self) -> None:
        """Count a client that reads the stream."""
        self._connections += 1
        self._was_connected = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def disconnect(self) -> None:
        """Count a client out; after the last one the answer goes on for `resume_seconds`, then it is cancelled."""
        self._connections -= 1
        if self._connections or (self.done and self.settled):
            return
        if self._resume_seconds:
            self._expiry = asyncio.get_running_loop().call_later(self._resume_seconds, self._abandon)
        else:
            self._abandon()

    def _abandon(self) -> None:
        self._expiry = None
        if self._writer is not None and not self.done:
            self._writer.cancel()  # `write_with` settles the stream
        else:
            self.settle()

    # Its end

    @property
    def is_connected(self) -> bool:
        """Whether a client reads the stream."""
        return self._connections > 0

    def settle(self) -> None:
        """Stop waiting for readers: the request's slot is free. A second call does nothing."""
        if not self.settled:
            self.settled = True
            self._delivered()

    def discard(self) -> None:
        """Drop all events; readers end."""
        self.discarded = True
        self._chunks.clear()
        self._numbers.clear()
        self._start = Position(self._end.chunk, self._end.nbytes)
        self._notify()


class EventStreams:
    """The streams that can be read: those being written, and those that ended a moment ago.

    `max_bytes` bounds what unfinished answers have reserved and the kept streams together. A stream takes up to
    `stream_bytes`. `resume_seconds` None: CONVERSATION_SECONDS for a conversation's answers, 0 for others.
    """

    def __init__(
        self, max_bytes: int = 1 << 28, stream_bytes: int = 1 << 20, resume_seconds: float | None = 0.0
    ) -> None:
        self.stream_bytes = stream_bytes
        self._max_bytes, self._resume_seconds = max_bytes, resume_seconds
        self._reserved = 0
        self._streams: OrderedDict[str, EventStream] = OrderedDict()

    @contextmanager
    def reserve(self, nbytes: int) -> Generator[None]:
        """Reserve memory for one more answer while the block runs; ended streams are dropped to make space.

        Raises ApiError 400 for more than the server ever has, 429 for more than it has now.
        """
        if nbytes > self._max_bytes:
            raise ApiError(
                400,
                f"The answer may take {nbytes / 1e6:.0f} MB, and the server sets {self._max_bytes / 1e6:.0f} MB aside "
                "for all answers (limits.answers_bytes); ask for it with stream: true, or for fewer answers, tokens or "
                "log-probabilities.",
                code="answer_too_large",
            )
        if not self._make_space(nbytes):
            raise server_full()
        self._reserved += nbytes
        try:
            yield
        finally:
            self._reserved -= nbytes

    def _make_space(self, nbytes: int) -> bool:
        settled = [stream for stream in self._streams.values() if stream.settled]  # the oldest first
        kept = sum(stream.nbytes for stream in settled)
        for stream in settled:
            if self._reserved + kept + nbytes <= self._max_bytes:
                break
            kept -= stream.nbytes
            self._drop(stream)
        return self._reserved + kept + nbytes <= self._max_bytes

    def start(
        self,
        name: str,
        owner: str,
        write: Write,
        delivered: Callable[[], None],
        conversation: str | None = None,
    ) -> EventStream:
        """Create a stream, of a stored `conversation` or of none, and let `write` fill it in the background.

        However the writing ends, the stream ends with `[DONE]`, after an `error` event where it failed.
        """

        async def write_to_the_end(stream: EventStream) -> None:
            try:
                await write(stream)
            except asyncio.CancelledError:
                stream.add(json.dumps(error_body(499, "The answer was stopped.", code="cancelled")), event="error")
                raise
            except ApiError as error:
                stream.add(json.dumps(error.body()), event="error")
            except Exception as error:
                stream.add(json.dumps(internal_error(name, error).body()), event="error")
            finally:
                stream.add("[DONE]")
                asyncio.get_running_loop().call_later(KEPT_SECONDS, self._drop, stream)

        seconds = self._resume_seconds
        if seconds is None:
            seconds = 0.0 if conversation is None else CONVERSATION_SECONDS
        stream = EventStream(name, owner, seconds, self.stream_bytes, delivered, conversation)
        self.add(stream)
        stream.write_with(write_to_the_end)
        return stream

    def add(self, stream: EventStream) -> None:
        """Keep a stream; the oldest are dropped when there are too many."""
        self._streams[stream.name] = stream
        while len(self._streams) > KEPT_STREAMS:
            self._drop(next(iter(self._streams.values())))

    def find(self, name: str, owner: str) -> EventStream | None:
        """Return the stream with this name, if it is the owner's."""
        stream = self._streams.get(name)
        return stream if stream is not None and stream.owner == owner else None

    def under_way(self, owner: str, conversation: str) -> EventStream | None:
        """Return the stream of the answer that is being written in an owner's conversation."""
        for stream in reversed(self._streams.values()):
            if stream.conversation == conversation and stream.owner == owner and not stream.done:
                return stream
        return None

    def find_event(self, event_id: str, owner: str) -> tuple[EventStream, int]:
        """Return an event's stream and its number. Raises ApiError 404 when what follows it is not kept any more."""
        name, _, number = event_id.rpartition(":")
        stream = self.find(name, owner)
        valid = number.isascii() and number.isdigit() and len(number) <= MAX_NUMBER_DIGITS
        if stream is None or not valid or not stream.can_replay(int(number)):
            raise ApiError(
                404, "There is no stream with this event, or no longer.", param="Last-Event-ID", code="stream_gone"
            )
        return stream, int(number)

    def _drop(self, stream: EventStream) -> None:
        self._streams.pop(stream.name, None)
        if stream.done and not stream.is_connected:
            stream.settle()
        if stream.settled:
            stream.discard()
