"""The two message channels between the HTTP process and the workers: sockets with one message per datagram.

LitServe's queues live in a third process, which adds a hop to each message and whose death ends the server. A datagram
arrives whole or not at all, and at one reader only: several workers can share a socket, and a worker that is killed
while it reads or writes leaves no partial message behind.
"""

import asyncio
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any

DATAGRAM_BYTES = 32768  # a longer message travels as a file in memory, whose descriptor the datagram carries
BUFFER_BYTES = 32 * DATAGRAM_BYTES  # of a socket; most systems give less


class EventChannel:
    """Messages from the workers to the HTTP process. Created before the processes that share it; each uses one end."""

    def __init__(self) -> None:
        self._reader, self._writer = _socket_pair()
        self._reader.setblocking(False)

    def send(self, item: Any, consumer_id: int) -> None:
        """Send a message; blocks only while the socket's buffer is full."""
        _send(self._writer, pickle.dumps(item))

    async def areceive(self, consumer_id: int) -> Any:
        """Return the next message."""
        while True:
            try:
                return pickle.loads(_receive(self._reader))
            except BlockingIOError:
                await _readable(self._reader)

    def close(self, **_: object) -> None:
        """Close this process's ends."""
        self._reader.close()
        self._writer.close()


class RequestQueue:
    """Requests from the HTTP process to the workers: whichever worker has capacity takes the next one."""

    def __init__(self) -> None:
        self._reader, self._writer = _socket_pair()
        self._writer.setblocking(False)

    def put(self, request: bytes) -> bool:
        """Send a request; returns False, without waiting, while the socket's buffer is full."""
        try:
            _send(self._writer, request)
        except BlockingIOError:
            return False
        return True

    def call_when_writable(self, call: Callable[[], None]) -> None:
        """Call `call` once, in this event loop, when `put` can succeed again."""
        loop = asyncio.get_running_loop()

        def writable() -> None:
            loop.remove_writer(self._writer)
            call()

        loop.add_writer(self._writer, writable)

    def get(self, seconds: float) -> bytes | None:
        """Return the next request; None when none arrives within `seconds`."""
        self._reader.settimeout(seconds)
        try:
            return _receive(self._reader)
        except (BlockingIOError, TimeoutError):
            return None

    def shutdown(self) -> None:
        """Close this process's ends."""
        self._reader.close()
        self._writer.close()


def _socket_pair() -> tuple[socket.socket, socket.socket]:
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
        file.seek(0)  # both processes share the file's offset, and the sender left it at the end
        return file.read()


def _scratch_file() -> IO[bytes]:
    """Open a private file: in memory where the system can do that, because a disk may be full."""
    return os.fdopen(os.memfd_create("message"), "wb") if sys.platform == "linux" else tempfile.TemporaryFile()


async def _readable(reader: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(reader, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(reader)
