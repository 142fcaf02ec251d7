"""Who gets through to the app, and when: a request's turn and its whole body first; whatever fails is answered here."""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.errors import GONE, TOO_LARGE, TOO_SLOW, ApiError, mistake, response, server_full
from serve.http.metrics import Metrics
from serve.http.turnstile import Turnstile
from serve.settings import Limits

# A full server says so before it reads a body: in a flood that is most of the work, and others wait for it.
ANSWERING = frozenset(("/v1/chat/completions", "/v1/chat/stream", "/v1/completions"))
A_TURN = 8  # requests that are begun between two looks at the network


class Gate:
    """The innermost layer around the app: what it answers passes through the others as the app's answers do."""

    def __init__(self, app: ASGIApp, metrics: Metrics, limits: Limits, full: Callable[[], bool]) -> None:
        self.app, self.metrics, self.limits, self.full = app, metrics, limits, full
        self.turnstile = Turnstile(A_TURN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._enter(scope, receive, answer)
        except ApiError as error:
            await response(error)(scope, receive, answer)
        except Exception as error:
            said = mistake(scope["request_id"], error)
            if not started:
                await response(said)(scope, receive, answer)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["path"] != "/health":
            await self.turnstile.enter()
        if scope["path"] in ANSWERING and self.full() and "last-event-id" not in headers:
            self.metrics.rejected.labels("full").inc()
            raise server_full()
        await self.app(scope, await self._with_body(headers, receive), send)

    async def _with_body(self, headers: Headers, receive: Receive) -> Receive:
        """What gives the whole body at once. Raises ApiError 413 and 408 for one that is too large or too slow."""
        if int(headers.get("content-length") or 0) > self.limits.body_bytes:
            raise ApiError(413, TOO_LARGE, code="payload_too_large")
        whole = [await self._gathered(receive)]

        async def gathered() -> Message:
            return whole.pop() if whole else await receive()

        return gathered

    async def _gathered(self, receive: Receive) -> Message:
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self.limits.receive_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(499, GONE, code="client_gone")
                    parts.append(message["body"])
                    size, more = size + len(parts[-1]), message["more_body"]
                    if size > self.limits.body_bytes:
                        raise ApiError(413, TOO_LARGE, code="payload_too_large")
        except TimeoutError:
            raise ApiError(408, TOO_SLOW, code="body_timeout") from None
        return {"type": "http.request", "body": b"".join(parts), "more_body": False}
