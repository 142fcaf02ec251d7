"""Which requests' bodies are received, and how many bytes of them there may be at once.

A request that needs a key shows it in its head; without one, none of its body is kept.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from serve.api.auth import KeyRing
from serve.api.errors import GONE, TOO_LARGE, TOO_SLOW, ApiError
from serve.settings import Limits

SMALL_BYTES = 16384  # that each request may have beside the bound for all, so that slow large ones do not keep it out


class Admission:
    """Receives bodies: each within a size and a time, all of them together within `limits.bodies_bytes`."""

    def __init__(self, limits: Limits, keys: KeyRing) -> None:
        self._limits, self._keys = limits, keys
        self._held = 0

    def check_key(self, scope: Scope, headers: Headers) -> None:
        """Raise ApiError 401 for a request with a body and without a key, where keys are asked for."""
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            address, _ = scope.get("client") or ("unknown", 0)
            self._keys.authenticate(headers.get("authorization"), address)

    @asynccontextmanager
    async def body(self, headers: Headers, receive: Receive) -> AsyncGenerator[Receive]:
        """What gives the whole body at once, which counts for as long as the block lasts.

        Raises ApiError 413, 408 and 503 for one that is too large, too slow, or more than there is room for.
        """
        if int(headers.get("content-length") or 0) > self._limits.body_bytes:
            raise ApiError(413, TOO_LARGE, code="payload_too_large")
        body = bytearray()  # many small parts would take far more than what is in them
        counted = 0
        try:
            try:
                async with asyncio.timeout(self._limits.receive_s):
                    more = True
                    while more:
                        part, more = await _next_part(receive)
                        body += part
                        counted = self._count(len(body), counted)
            except TimeoutError:
                raise ApiError(408, TOO_SLOW, code="body_timeout") from None
            whole = _given(bytes(body), receive)
            body.clear()
            yield whole
        finally:
            self._held -= counted

    def _count(self, size: int, counted: int) -> int:
        """Count a body of which so many bytes are here and so many were counted before; return what is counted now."""
        if size > self._limits.body_bytes:
            raise ApiError(413, TOO_LARGE, code="payload_too_large")
        beyond = max(0, size - SMALL_BYTES)
        if beyond > counted and self._held + beyond - counted > self._limits.bodies_bytes:
            raise ApiError(503, "The server is receiving as much as it can.", code="too_much_received", retry_after=1)
        self._held += beyond - counted
        return beyond


async def _next_part(receive: Receive) -> tuple[bytes, bool]:
    """A piece of a body, and whether there is more. Raises ApiError 499 when the client goes."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ApiError(499, GONE, code="client_gone")
    return message["body"], message["more_body"]


def _given(body: bytes, receive: Receive) -> Receive:
    """What gives a body that is here, and then what the connection brings."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return whole.pop() if whole else await receive()

    return given
