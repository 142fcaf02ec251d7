"""The two lines between the HTTP process and the workers: sockets, on which a datagram is a message.

LitServe's queues live in a third process, for which everybody waits at each message, and whose end is the server's.
Datagrams arrive whole or not at all, and each at one reader: so many workers share a socket, and one that is killed
while it reads or writes leaves nothing half said.
"""

import asyncio
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any

from litserve.transport.base import MessageTransport

DATAGRAM_BYTES = 32768  # what is longer travels as a file in memory, whose descriptor the datagram carries
BUFFER_BYTES = 32 * DATAGRAM_BYTES  # that may be under way; most systems give less


class Line(MessageTransport):
    """What the workers say. Made before the processes that share it; each uses its own end."""

    def __init__(self) -> None:
        self._reader, self._writer = _pair()
        self._reader.setblocking(False)

    def send(self, item: Any, consumer_id: int) -> None:
        """Say something; waits only while the other end is far behind."""
        _send(self._writer, pickle.dumps(item))

    async def areceive(  # pyright: ignore[reportIncompatibleMethodOverride]  # LitServe calls it with this order
        self, consumer_id: int, timeout: float | None = None
    ) -> Any:
        """The next message."""
        while True:
            try:
                return pickle.loads(_receive(self._reader))
            except BlockingIOError:
                await _readable(self._reader)

    def close(self, **_: object) -> None:
        """Let go of this process's ends."""
        self._reader.close()
        self._writer.close()


class Jobs:
    """What the workers are to do: the HTTP process puts, and whichever worker has room gets.

    It stands in the place of LitServe's queue, and for LitServe also in that of the manager which the queue would have.
    """

    def __init__(self) -> None:
        self._reader, self._writer = _pair()
        self._writer.setblocking(False)

    def put(self, job: bytes) -> bool:
        """Hand a job in; False while there is no room on the line. Never waits."""
        try:
            _send(self._writer, job)
        except BlockingIOError:
            return False
        return True

    def when_there_is_room(self, call: Callable[[], None]) -> None:
        """Call something once, in this event loop, when `put` is worth another try."""
        loop = asyncio.get_running_loop()

        def writable() -> None:
            loop.remove_writer(self._writer)
            call()

        loop.add_writer(self._writer, writable)

    def get(self, seconds: float) -> bytes | None:
        """The next job, waited for so long; None when there is none."""
        self._reader.settimeout(seconds)
        try:
            return _receive(self._reader)
        except (BlockingIOError, TimeoutError):
            return None

    def shutdown(self) -> None:
        """Let go of this process's ends; LitServe calls it last of all."""
        self._reader.close()
        self._writer.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return reader, writer


def _send(writer: socket.socket, data: bytes) -> None:
    if len(data) <= DATAGRAM_BYTES:
        writer.send(data)
        return
    with _scratch_file() as file:
        file.write(data)
        file.flush()
        socket.send_fds(writer, [b"\0"], [file.fileno()])


def _receive(reader: socket.socket) -> bytes:
    data, descriptors, _, _ = socket.recv_fds(reader, DATAGRAM_BYTES, 1)
    if not descriptors:
        return data
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)  # the sender left the place that both share at the end
        return file.read()


def _scratch_file() -> IO[bytes]:
    """A file that nobody else sees: in memory, where there is such a thing, as a disk may be full."""
    return os.fdopen(os.memfd_create("message"), "wb") if sys.platform == "linux" else tempfile.TemporaryFile()


async def _readable(reader: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(reader, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(reader)
