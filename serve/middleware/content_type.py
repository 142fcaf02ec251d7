"""Each endpoint takes bodies of its own content type alone: what a page may send without asking is none of them."""

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from serve.api.errors import ApiError

JSON = "application/json"


class TypedRoute(APIRoute):
    """A route that answers 415 to a body of another type than its own.

    Its types are those of the request body that it documents: application/json, or what `openapi_extra` names. A route
    without a body reads none, whatever is sent.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the check."""
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
    """Whether the body is of one of the types, or there is neither a type nor a body (the endpoint asks for it)."""
    given = request.headers.getlist("content-type")
    if not given:
        return not await request.body()
    parsed = Message()
    parsed["content-type"] = given[0]
    return len(given) == 1 and parsed.get_content_type() in types
