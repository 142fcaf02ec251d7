"""Admission of requests: first the API key, then a turn in the queue, then the whole body within the memory bounds.

A request without a valid key is refused before its body is kept.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.auth import KeyRing
from serve.api.errors import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    CLIENT_GONE,
    ApiError,
    error_response,
    internal_error,
    server_full,
)
from serve.settings import Limits
from serve.telemetry.metrics import Metrics

# A full server refuses these before it reads their bodies: in a flood of requests that saves most of the work.
GENERATION_PATHS = frozenset(
    ("/v1/chat/completions", "/v1/chat/stream", "/v1/completions", "/v1/embeddings", "/v1/responses")
)
UPLOAD_PATH = "/v1/files"  # whose bodies have a bound of their own (files.max_bytes)
REQUESTS_PER_TICK = 8
UNCOUNTED_BYTES = 16384  # of each body, beside the bound for all bodies: slow large bodies do not keep small ones out


class AdmissionMiddleware:
    """The innermost middleware: it turns every exception of the app into a response."""

    def __init__(self, app: ASGIApp, metrics: Metrics, bodies: "BodyReader", full: Callable[[], bool]) -> None:
        self.app, self.metrics, self.bodies, self.full = app, metrics, bodies, full
        self.queue = FairQueue(REQUESTS_PER_TICK)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def track_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._admit(scope, receive, track_start)
        except ApiError as error:
            await error_response(error)(scope, receive, track_start)
        except Exception as error:
            api_error = internal_error(scope["request_id"], error)
            if not started:
                await error_response(api_error)(scope, receive, track_start)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self.bodies.check_key(scope, headers)
        if scope["path"] != "/health":
            await self.queue.enter()
        if scope["path"] in GENERATION_PATHS and self.full() and "last-event-id" not in headers:
            self.metrics.rejected.labels("full").inc()
            raise server_full()
        async with self.bodies.received(scope, headers, receive) as receive_body:
            await self.app(scope, receive_body, send)


class FairQueue:
    """Admits at most `per_tick` tasks in each turn of the event loop, in the order of their arrival.

    When hundreds of requests arrive together, each turn stays short. A request that skips the queue (/health) waits for
    one turn, not for all other requests.
    """

    def __init__(self, per_tick: int) -> None:
        self._per_tick = self._left = per_tick
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait until this task is admitted."""
        if self._left:
            self._admit_one()
            return
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append(admitted)
        await admitted

    def _admit_one(self) -> None:
        if self._left == self._per_tick:
            asyncio.get_running_loop().call_soon(self._next_tick)
        self._left -= 1

    def _next_tick(self) -> None:
        self._left = self._per_tick
        while self._waiting and self._left:
            admitted = self._waiting.popleft()
            if not admitted.done():
                self._admit_one()
                admitted.set_result(None)


class BodyReader:
    """Receives request bodies: each within a size and a time, all of them together within `limits.bodies_bytes`."""

    def __init__(self, limits: Limits, keys: KeyRing, upload_bytes: int) -> None:
        self._limits, self._keys, self._upload_bytes = limits, keys, upload_bytes
        self._total_bytes = 0

    def check_key(self, scope: Scope, headers: Headers) -> None:
        """Raise ApiError 401 for a request that has a body but no valid key, where keys are required."""
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            address, _ = scope.get("client") or ("unknown", 0)
            self._keys.authenticate(headers.get("authorization"), address)

    @asynccontextmanager
    async def received(self, scope: Scope, headers: Headers, receive: Receive) -> AsyncGenerator[Receive]:
        """Receive the body; yield an ASGI `receive` that returns it in one message. It counts until the block ends.

        Raises ApiError 413 when it is too large, 408 when it is too slow, 503 when all bodies together are too large.
        """
        limit = self._limits.body_bytes
        if scope["path"] == UPLOAD_PATH:
            limit = max(limit, self._upload_bytes + UNCOUNTED_BYTES)  # with the other parts of the form
        if int(headers.get("content-length") or 0) > limit:
            raise ApiError(413, BODY_TOO_LARGE, code="payload_too_large")
        body = bytearray()  # a list of many small chunks would take far more memory than their bytes
        counted = 0
        try:
            try:
                async with asyncio.timeout(self._limits.receive_s):
                    more = True
                    while more:
                        chunk, more = await _next_chunk(receive)
                        body += chunk
                        counted = self._count(len(body), counted, limit)
            except TimeoutError:
                raise ApiError(408, BODY_TIMEOUT, code="body_timeout") from None
            receive_body = _replayed(bytes(body), receive)
            body.clear()
            yield receive_body
        finally:
            self._total_bytes -= counted

    def _count(self, size: int, counted: int, limit: int) -> int:
        """Count a body of `size` bytes, of which `counted` are counted already; return how many are counted now."""
        if size > limit:
            raise ApiError(413, BODY_TOO_LARGE, code="payload_too_large")
        large = max(0, size - UNCOUNTED_BYTES)
        if large > counted and self._total_bytes + large - counted > self._limits.bodies_bytes:
            raise ApiError(503, "The server is receiving as much as it can.", code="too_much_received", retry_after=1)
        self._total_bytes += large - counted
        return large


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    """A chunk of a body, and whether more follows. Raises ApiError 499 when the client disconnects."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ApiError(499, CLIENT_GONE, code="client_gone")
    return message["body"], message["more_body"]


def _replayed(body: bytes, receive: Receive) -> Receive:
    """An ASGI `receive` that returns the body first, and then the connection's own messages."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body() -> Message:
        return messages.pop() if messages else await receive()

    return receive_body
