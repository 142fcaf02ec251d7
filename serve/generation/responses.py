"""HTTP responses that send an answer in small pieces, each when the connection has taken the one before.

The unsent part of an answer stays here, where its memory is counted, and not in the connection. A client that takes
too long is disconnected.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Header, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.api.errors import CLIENT_GONE, ApiError
from serve.generation.event_stream import SEND_BYTES, EventStream

ABORT = "resonance.abort"
"""The extension of a request's scope that closes its connection at once, set by `serve.middleware.uvicorn_protocol`."""
EVENT_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
LastEventId = Annotated[str | None, Header(description="Replay a stream's events after this one instead.")]
STREAMED = {
    "content": {"text/event-stream": {}},
    "description": "The answer, or its events.",
}
T = TypeVar("T")


class WholeResponse(Response):
    """A complete JSON body. `delivered` is called when the client has all but its last piece, and at the end."""

    media_type = "application/json"

    def __init__(self, body: bytes, delivered: Callable[[], None], seconds: float) -> None:
        super().__init__(body)
        self.delivered, self.seconds = delivered, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the body until it is complete, the client has gone, or the time is over."""
        try:
            await _send_while_connected(self._write(send), scope, receive, self.seconds)
        finally:
            self.delivered()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        whole_pieces = max(0, len(body) - 1) // SEND_BYTES * SEND_BYTES
        for start in range(0, whole_pieces, SEND_BYTES):
            await send({"type": "http.response.body", "body": body[start : start + SEND_BYTES], "more_body": True})
        if whole_pieces:
            await send({"type": "http.response.body", "body": b"", "more_body": True})  # waits for the pieces before
        self.delivered()
        await send({"type": "http.response.body", "body": body[whole_pieces:], "more_body": False})


class EventStreamResponse(Response):
    """Server-sent events, read from an EventStream after event number `after`."""

    media_type = "text/event-stream"

    def __init__(self, stream: EventStream, seconds: float, after: int = 0) -> None:
        super().__init__(headers=EVENT_STREAM_HEADERS)
        del self.headers["content-length"]
        self.stream, self.seconds, self.after = stream, seconds, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream is done, the client has gone, or the time is over."""

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self.stream.read(
                lambda data: send({"type": "http.response.body", "body": data, "more_body": True}), self.after
            )
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        self.stream.connect()
        try:
            await _send_while_connected(write(), scope, receive, self.seconds)
        finally:
            self.stream.disconnect()


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`; when the client goes, cancel it and raise ApiError 499."""
    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(_wait_for_disconnect(request.receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, CLIENT_GONE, code="client_gone")
        return working.result()
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _send_while_connected(
    write: Coroutine[Any, Any, None], scope: Scope, receive: Receive, seconds: float
) -> None:
    """Run what writes a response until it is done, the client has gone, or the time is over."""
    writing, watching = asyncio.create_task(write), asyncio.create_task(_wait_for_disconnect(receive))
    try:
        done, _ = await asyncio.wait({writing, watching}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        extensions = scope.get("extensions", {})
        if not done and ABORT in extensions:
            extensions[ABORT]["call"]()
            await watching
    finally:
        for task in (writing, watching):
            task.cancel()
        await asyncio.gather(writing, watching, return_exceptions=True)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
