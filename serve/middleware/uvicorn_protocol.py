"""uvicorn's HTTP/1.1 protocol with the bounds that it lacks: on connections, header size, and slow clients.

A request's head must arrive within a size and a time, and the client must read its response. A client that sends slowly
or without end, or does not read, holds no resources for long. This module knows nothing of the endpoints.
"""

import asyncio
import json
import socket
import sys
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.api.errors import ApiError
from serve.generation.responses import ABORT

UNSENT_BYTES = 65536  # that the kernel buffers of a connection's output before it is sent
NOT_SENT = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)  # Python names it from 3.12 on
HEAD_BYTES = 32768
INVALID_HTTP = ApiError(400, "This is no HTTP request.", code="invalid_http")
HEAD_TOO_LARGE = ApiError(431, f"A request's head has at most {HEAD_BYTES} bytes.", code="head_too_large")
TOO_MANY_CONNECTIONS = ApiError(
    503, "The server has as many connections as it takes.", code="too_many_connections", retry_after=1
)


class ConnectionLimiter:
    """Counts a process's open connections, in all and by address; `per_address` None: one address may have all."""

    def __init__(self, total: int, per_address: int | None) -> None:
        self._total = total
        self._per_address = total if per_address is None else per_address
        self._by_address: Counter[str] = Counter()
        self._open = 0

    def add(self, address: str) -> bool:
        """Count one more connection of an address; return False, and count nothing, where there are too many."""
        if self._open >= self._total or self._by_address[address] >= self._per_address:
            return False
        self._open += 1
        self._by_address[address] += 1
        return True

    def remove(self, address: str) -> None:
        """Stop counting a connection that was closed."""
        self._open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class WatchedTransport:
    """A transport that aborts its connection when the client reads none of what was written for `seconds`.

    It delegates everything else to the transport that it wraps. It checks the write buffer `CHECKS` times in `seconds`.
    The kernel's buffer is kept small, so that unread output stays in the buffer that is checked.
    """

    CHECKS = 4

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport, self._loop, self._seconds = transport, loop, seconds
        self._write, self._buffered_bytes = transport.write, transport.get_write_buffer_size
        self._written = 0
        self._read = 0  # bytes that the client had read at the last check
        self._idle_checks = 0
        self._timer: asyncio.TimerHandle | None = None
        if NOT_SENT is not None:
            with suppress(OSError):  # no TCP
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, NOT_SENT, UNSENT_BYTES)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, as the transport does, and check from now on that the client reads."""
        self._write(data)
        self._written += len(data)
        if self._timer is None:
            self._read, self._idle_checks = self._written - len(data), 0
            self._timer = self._loop.call_later(self._seconds / self.CHECKS, self._check)

    def stop(self) -> None:
        """Stop checking: the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        buffered = self._buffered_bytes()
        self._timer = None
        if not buffered:
            return
        read = self._written - buffered
        self._idle_checks = 0 if read > self._read else self._idle_checks + 1
        self._read = read
        if self._idle_checks >= self.CHECKS:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(self._seconds / self.CHECKS, self._check)


class BoundedProtocol(HttpToolsProtocol):
    """One connection; uvicorn creates it.

    A head must be complete `receive_seconds` after its first byte. The rest of a request that was answered early must
    arrive in the same time. A client that reads nothing of its response for `write_seconds` is disconnected.
    """

    def __init__(
        self, *args: Any, connections: ConnectionLimiter, receive_seconds: float, write_seconds: float, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._connections, self._receive_seconds, self._write_seconds = connections, receive_seconds, write_seconds
        self._watched: WatchedTransport | None = None
        self._counted_address: str | None = None
        self._in_head, self._in_body = True, False
        self._head_bytes = 0  # of the current head; at most too many, as bytes of a body may be among them
        self._receive_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it so as well
        """Wait for the first head, or refuse the connection where there are too many."""
        self._watched = WatchedTransport(transport, self.loop, self._write_seconds)
        super().connection_made(cast(asyncio.Transport, self._watched))
        address = self.client[0] if self.client else ""
        if self._connections.add(address):
            self._counted_address = address
            self._start_timer()
        else:
            self._refuse(TOO_MANY_CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers, and uncount the connection."""
        super().connection_lost(exc)
        self._stop_timer()
        if self._watched is not None:
            self._watched.stop()
        if self._counted_address is not None:
            self._connections.remove(self._counted_address)
            self._counted_address = None

    def data_received(self, data: bytes) -> None:
        """Parse the bytes, and refuse a head that is too long before all of it is received."""
        if self.transport.is_closing():  # refused
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Start the timer at the first byte of a head."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {ABORT: {"call": self.transport.abort}}
        self._in_head, self._head_bytes = True, 0
        if self._receive_timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        """Check the size of a complete head."""
        self._in_head, self._in_body = False, True
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)
            raise ValueError("head too long")  # ends the parsing
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the timer when the request is complete."""
        self._in_body = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Drop the rest of a request that was answered before it was complete, and wait for it within the time."""
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete:
            self.cycle.body = bytearray()
            if self._receive_timer is None:
                self._start_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with our error body."""
        if not self.transport.is_closing():
            self._refuse(INVALID_HTTP)

    def _start_timer(self) -> None:
        self._receive_timer = self.loop.call_later(self._receive_seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _refuse(self, error: ApiError) -> None:
        body = json.dumps(error.body()).encode()
        retry = "" if error.retry_after is None else f"Retry-After: {error.retry_after:.0f}\r\n"
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
