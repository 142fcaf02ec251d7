"""How an answer's bytes reach its client: in small pieces, each as the connection takes the one before.

What a client does not take waits where it can be counted, and not in the connection; a client that takes too long is
hung up on.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SEND_BYTES = 32768  # handed to a connection at a time
ABORT = "resonance.abort"
"""The extension of a request's scope that ends its connection at once, set by `serve.middleware.uvicorn_protocol`."""


class WholeAnswer(Response):
    """A JSON body that is there as a whole. `delivered` is called once, when the client has all but its last piece."""

    media_type = "application/json"

    def __init__(self, body: bytes, delivered: Callable[[], None], seconds: float | None = None) -> None:
        super().__init__(body)
        self.delivered, self.seconds = delivered, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the body until it is out, the client has gone, or the time is over."""
        try:
            await deliver(self._write(send), scope, receive, self.seconds)
        finally:
            self.delivered()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        whole_pieces = max(0, len(body) - 1) // SEND_BYTES * SEND_BYTES
        for start in range(0, whole_pieces, SEND_BYTES):
            await send({"type": "http.response.body", "body": body[start : start + SEND_BYTES], "more_body": True})
        if whole_pieces:
            await send({"type": "http.response.body", "body": b"", "more_body": True})  # waits for what was sent
        self.delivered()
        await send({"type": "http.response.body", "body": body[whole_pieces:], "more_body": False})


async def deliver(write: Coroutine[Any, Any, None], scope: Scope, receive: Receive, seconds: float | None) -> None:
    """Run what writes a response, until it is done, the client has gone, or so many seconds are over."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    writing, watching = asyncio.create_task(write), asyncio.create_task(gone())
    try:
        done, _ = await asyncio.wait({writing, watching}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ways = scope.get("extensions", {})
        if not done and ABORT in ways:
            ways[ABORT]["call"]()
            await watching
    finally:
        for task in (writing, watching):
            task.cancel()
        await asyncio.gather(writing, watching, return_exceptions=True)
