"""How many connections are open, in all and by address; and what a connection still has to send.

It knows nothing of HTTP.
"""

import asyncio
import socket
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

UNSENT_BYTES = 65536  # that the system takes of a connection's output before it is sent
NOT_SENT = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)  # Python names it from 3.12 on


class Connections:
    """The open connections of a process; `most_per_address` None: one address may have all."""

    def __init__(self, most: int, most_per_address: int | None) -> None:
        self._most = most
        self._most_per_address = most if most_per_address is None else most_per_address
        self._by_address: Counter[str] = Counter()
        self._open = 0

    def add(self, address: str) -> bool:
        """Count one more connection of an address; False, and nothing is counted, where there are too many."""
        if self._open >= self._most or self._by_address[address] >= self._most_per_address:
            return False
        self._open += 1
        self._by_address[address] += 1
        return True

    def remove(self, address: str) -> None:
        """A connection that was counted is gone."""
        self._open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class WatchedTransport:
    """A transport that ends its connection when the client takes nothing of what was written for `seconds`.

    In all else it is the transport around which it is made. What it holds is looked at a few times in that while. The
    system's own buffer is kept small, so that what is not read is seen here.
    """

    LOOKS = 4

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport, self._loop, self._seconds = transport, loop, seconds
        self._write, self._held = transport.write, transport.get_write_buffer_size
        self._written = 0
        self._taken = 0  # of it, at the last look at which there was more than before
        self._quiet_looks = 0
        self._look: asyncio.TimerHandle | None = None
        if NOT_SENT is not None:
            with suppress(OSError):  # no TCP
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, NOT_SENT, UNSENT_BYTES)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, as the transport does, and see to it that the client reads."""
        self._write(data)
        self._written += len(data)
        if self._look is None:
            self._taken, self._quiet_looks = self._written - len(data), 0
            self._look = self._loop.call_later(self._seconds / self.LOOKS, self._look_again)

    def stop(self) -> None:
        """The connection is gone."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_again(self) -> None:
        held = self._held()
        self._look = None
        if not held:
            return
        taken = self._written - held
        self._quiet_looks = 0 if taken > self._taken else self._quiet_looks + 1
        self._taken = taken
        if self._quiet_looks >= self.LOOKS:
            self._transport.abort()
        else:
            self._look = self._loop.call_later(self._seconds / self.LOOKS, self._look_again)
