"""What workers say on its way to the HTTP process: one socket, a datagram a message.

LitServe's queue goes through a third process, and a worker waits for that process after each step. Datagrams arrive
whole or not at all, so that many workers can share the socket, and one that is killed while it writes leaves nothing
half said. A message longer than a datagram goes in parts.
"""

import asyncio
import os
import pickle
import socket
import struct
from typing import Any

from litserve.transport.base import MessageTransport

PART_BYTES = 32768
HEADER = struct.Struct("<IHH")  # who sends (its process), which part this is, how many there are


class Line(MessageTransport):
    """Both ends; every process uses the one it needs. Made before the processes that share it."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * PART_BYTES)
        self._reader.setblocking(False)
        self._begun: dict[int, list[bytes]] = {}  # parts of messages that are not whole yet, by sender

    def send(self, item: Any, consumer_id: int) -> None:
        """Say something; waits only while the other end is far behind."""
        data = pickle.dumps(item)
        parts = range(0, len(data), PART_BYTES)
        for number, first in enumerate(parts):
            self._writer.send(HEADER.pack(os.getpid(), number, len(parts)) + data[first : first + PART_BYTES])

    async def areceive(  # pyright: ignore[reportIncompatibleMethodOverride]  # LitServe calls it with this order
        self, consumer_id: int, timeout: float | None = None
    ) -> Any:
        """The next message."""
        loop = asyncio.get_running_loop()
        while True:
            datagram = await loop.sock_recv(self._reader, HEADER.size + PART_BYTES)
            sender, number, count = HEADER.unpack_from(datagram)
            parts = [] if number == 0 else self._begun.pop(sender, [])
            parts.append(datagram[HEADER.size :])
            if len(parts) == count:
                return pickle.loads(b"".join(parts))
            if len(parts) == number + 1:  # else its beginning was another's, who had the same number
                self._begun[sender] = parts

    def close(self, **_: object) -> None:
        """Let go of this process's ends."""
        self._reader.close()
        self._writer.close()
