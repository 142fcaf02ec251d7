"""The outermost middleware: request ids, security headers, request metrics, traces and the access log."""

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.telemetry.metrics import Metrics
from serve.telemetry.tracing import CURRENT_TRACE, UNTRACED, Trace, Tracing

log = logging.getLogger("resonance.serve.access")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), payment=()",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class AccessLogMiddleware:
    """Gives each request an id, and each response its headers; records metrics, a trace and a log line."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Callable[[], Tracing | None]) -> None:
        self.app, self.metrics, self.tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client_id = headers.get("x-request-id", "")
        request_id = client_id if _REQUEST_ID.fullmatch(client_id) else secrets.token_hex(8)
        scope["request_id"] = request_id
        trace = self._start_trace(scope, headers, request_id)
        started_at, status = time.monotonic(), 499  # 499: the client disconnected

        async def add_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request_id)
            await send(message)

        try:
            await self.app(scope, receive, add_headers)
        finally:
            self._record(scope, request_id, status, time.monotonic() - started_at, trace)

    def _start_trace(self, scope: Scope, headers: Headers, request_id: str) -> Trace | None:
        tracing = None if scope["path"] in UNTRACED else self.tracing()
        trace = None if tracing is None else tracing.start_trace(scope["method"], headers, request_id)
        CURRENT_TRACE.set(trace)  # in this request's task, and in the tasks that it starts
        return trace

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float, trace: Trace | None) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.http.labels(route, scope["method"], str(status)).inc()
        self.metrics.http_seconds.labels(route).observe(seconds)
        entry = {
            "request_id": request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        if trace is not None:
            trace.end(route, status)
            entry["trace_id"] = trace.id
        log.info(json.dumps(entry))


def _add_headers(message: MutableMapping[str, Any], request_id: str) -> None:
    headers = MutableHeaders(raw=message["headers"])
    headers["X-Request-ID"] = request_id
    for name, value in SECURITY.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
