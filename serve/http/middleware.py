"""What every request passes through: a number, its turn, its body, headers on its answer, a line in the log."""

import asyncio
import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.errors import GONE, TOO_LARGE, TOO_SLOW, ApiError, response, server_full
from serve.http.metrics import Metrics
from serve.http.tracing import TRACE, UNTRACED, Trace, Tracing
from serve.http.turnstile import Turnstile
from serve.settings import Limits

log = logging.getLogger("resonance.serve.access")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), payment=()",
}
# A full server says so before it reads a body: in a flood that is most of the work, and others wait for it.
ANSWERING = frozenset(("/v1/chat/completions", "/v1/chat/stream", "/v1/completions"))
A_TURN = 8  # requests that are begun between two looks at the network
MISTAKE = "The server has made a mistake; it goes on."
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Edge:
    """The outermost layer around the app."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        limits: Limits,
        full: Callable[[], bool],
        tracing: Callable[[], Tracing | None],
    ) -> None:
        self.app, self.metrics, self.limits, self.full, self.tracing = app, metrics, limits, full, tracing
        self.turnstile = Turnstile(A_TURN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        trace = self._trace(scope, headers, request_id)
        began, status, started = time.monotonic(), 499, False

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                _add_headers(message, request_id)
            await send(message)

        try:
            if scope["path"] != "/health":
                await self.turnstile.enter()
            if scope["path"] in ANSWERING and self.full() and "last-event-id" not in headers:
                self.metrics.rejected.labels("full").inc()
                raise server_full()
            await self.app(scope, await self._with_body(headers, receive), answer)
        except ApiError as error:
            await response(error)(scope, receive, answer)
        except Exception as error:
            _log_fault(request_id, error)
            if not started:
                await response(ApiError(500, MISTAKE, code="internal_error"))(scope, receive, answer)
        finally:
            self._note(scope, request_id, status, time.monotonic() - began, trace)

    def _trace(self, scope: Scope, headers: Headers, request_id: str) -> Trace | None:
        tracing = None if scope["path"] in UNTRACED else self.tracing()
        trace = None if tracing is None else tracing.begin(scope["method"], headers, request_id)
        TRACE.set(trace)  # for this request's task, and those that it starts
        return trace

    async def _with_body(self, headers: Headers, receive: Receive) -> Receive:
        """What gives the whole body at once. Raises ApiError 413 and 408 for one that is too large or too slow."""
        if int(headers.get("content-length") or 0) > self.limits.body_bytes:
            raise ApiError(413, TOO_LARGE, code="payload_too_large")
        message = await receive()
        if message.get("more_body"):
            message = await self._gathered(message["body"], receive)
        whole: list[Message] = [message]

        async def gathered() -> Message:
            return whole.pop() if whole else await receive()

        return gathered

    async def _gathered(self, first: bytes, receive: Receive) -> Message:
        parts, size, more = [first], len(first), True
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

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float, trace: Trace | None) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.http.labels(route, scope["method"], str(status)).inc()
        self.metrics.http_seconds.labels(route).observe(seconds)
        line = {
            "request_id": request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        if trace is not None:
            trace.end(route, status)
            line["trace_id"] = trace.id
        log.info(json.dumps(line))


def _log_fault(request_id: str, error: Exception) -> None:
    """Where it happened, without the error's own words: they may repeat what a client has sent."""
    places = " < ".join(
        f"{Path(f.filename).name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__))
    )
    log.error(json.dumps({"request_id": request_id, "fault": type(error).__name__, "at": places}))


def _add_headers(message: MutableMapping[str, Any], request_id: str) -> None:
    headers = MutableHeaders(raw=message["headers"])
    headers["X-Request-ID"] = request_id
    for name, value in SECURITY.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
