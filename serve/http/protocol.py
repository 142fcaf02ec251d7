"""How bytes become requests: uvicorn's parser in C, with the bounds that it lacks.

A request's head must come within a size and a time, so that a client that sends it slowly or without end holds
nothing for long. It knows nothing of what is served.
"""

import json
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.http.errors import ApiError

HEAD_BYTES = 32768
UNREADABLE = ApiError(400, "This is no HTTP request.", code="invalid_http")
HEAD_TOO_LARGE = ApiError(431, f"A request's head has at most {HEAD_BYTES} bytes.", code="head_too_large")


class BoundedProtocol(HttpToolsProtocol):
    """One connection; uvicorn makes them. A head must be here `head_seconds` after its first byte."""

    def __init__(self, *args: Any, head_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_seconds = head_seconds
        self._in_head = True
        self._head_bytes = 0  # of the head that is being received, or more: of all that came with it
        self._patience: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # uvicorn narrows it so as well
        """Wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and refuse a head that is too long before all of it is here."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a head has come."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._patience is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._in_head = False
        self._stop_waiting()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)
            raise ValueError("head too long")  # ends the parsing
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Say so in the one form of all errors."""
        if not self.transport.is_closing():
            self._refuse(UNREADABLE)

    def _await_head(self) -> None:
        self._patience = self.loop.call_later(self._head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, error: ApiError) -> None:
        body = json.dumps(error.body()).encode()
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
