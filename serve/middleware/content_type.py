"""The content type of request bodies: no endpoint accepts a type that a foreign page may send without a preflight."""

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from serve.api.errors import ApiError

JSON = "application/json"


class TypedRoute(APIRoute):
    """A route that answers 415 to a body of another content type than its own.

    Its types are those of its documented request body: application/json, or those of `openapi_extra`. A route without
    a documented body ignores any body.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler after the check."""
        handle = super().get_route_handler()
        types = self._types()

        async def checked(request: Request) -> Response:
            if types and not await _has_type(request, types):
                message = f"The body needs Content-Type: {' or '.join(types)}."
                raise ApiError(415, message, param="Content-Type", code="unsupported_media_type")
            return await handle(request)

        return checked

    def _types(self) -> tuple[str, ...]:
        if self.body_field is not None:
            return (JSON,)
        return tuple((self.openapi_extra or {}).get("requestBody", {}).get("content", {}))


async def _has_type(request: Request, types: tuple[str, ...]) -> bool:
    """Whether the body has one of the types, or there is neither a type nor a body (the endpoint then answers 400)."""
    values = request.headers.getlist("content-type")
    if not values:
        return not await request.body()
    parsed = Message()
    parsed["content-type"] = values[0]
    return len(values) == 1 and parsed.get_content_type() in types
