"""How bytes become requests: uvicorn's parser in C, with the bounds that it lacks.

A request's head must come within a size and a time, and its answer must be taken, so that a client that sends slowly
or without end, or does not read, holds nothing for long. Connections are bounded in number. It knows nothing of what is
served.
"""

import json
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.api.errors import ApiError
from serve.generation.delivery import ABORT
from serve.middleware.connections import Connections, WatchedTransport

HEAD_BYTES = 32768
UNREADABLE = ApiError(400, "This is no HTTP request.", code="invalid_http")
HEAD_TOO_LARGE = ApiError(431, f"A request's head has at most {HEAD_BYTES} bytes.", code="head_too_large")
TOO_MANY = ApiError(503, "The server has as many connections as it takes.", code="too_many_connections", retry_after=1)


class BoundedProtocol(HttpToolsProtocol):
    """One connection; uvicorn makes them.

    A head must be here `receive_seconds` after its first byte, and what follows of a request that was answered before
    it was here in the same time. A client that takes nothing of its answer for `write_seconds` is given up.
    """

    def __init__(
        self, *args: Any, connections: Connections, receive_seconds: float, write_seconds: float, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._connections, self._receive_seconds, self._write_seconds = connections, receive_seconds, write_seconds
        self._watched: WatchedTransport | None = None
        self._counted_for: str | None = None
        self._in_head, self._in_body = True, False
        self._head_bytes = 0  # of the head that is being received, or more: of all that came with it
        self._patience: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # uvicorn narrows it so as well
        """Wait for the first head, or refuse a connection that is one too many."""
        self._watched = WatchedTransport(transport, self.loop, self._write_seconds)
        super().connection_made(cast(Transport, self._watched))
        address = self.client[0] if self.client else ""
        if self._connections.add(address):
            self._counted_for = address
            self._await_request()
        else:
            self._refuse(TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._stop_waiting()
        if self._watched is not None:
            self._watched.stop()
        if self._counted_for is not None:
            self._connections.remove(self._counted_for)
            self._counted_for = None

    def data_received(self, data: bytes) -> None:
        """Parse what came, and refuse a head that is too long before all of it is here."""
        if self.transport.is_closing():  # refused
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a head has come."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {ABORT: {"call": self.transport.abort}}
        self._in_head, self._head_bytes = True, 0
        if self._patience is None:
            self._await_request()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._in_head, self._in_body = False, True
        self._stop_waiting()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)
            raise ValueError("head too long")  # ends the parsing
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is here whole."""
        self._in_body = False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request is answered; if it is not here whole, what is still to come of it is waited for no longer."""
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete:
            self.cycle.body = bytearray()
            if self._patience is None:
                self._await_request()

    def send_400_response(self, msg: str) -> None:
        """Say so in the one form of all errors."""
        if not self.transport.is_closing():
            self._refuse(UNREADABLE)

    def _await_request(self) -> None:
        self._patience = self.loop.call_later(self._receive_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, error: ApiError) -> None:
        body = json.dumps(error.body()).encode()
        retry = "" if error.retry_after is None else f"Retry-After: {error.retry_after:.0f}\r\n"
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
