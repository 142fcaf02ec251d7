"""Requests of pages of other origins: CORS for the configured origins, and protection against CSRF from all others.

A browser names the page that sends a state-changing request (Origin, Sec-Fetch-Site). A client that is no browser sends
neither header, and passes. Browsers that name no page ask before they send a content type that forms cannot have, so
the endpoints accept no other (`TypedRoute`); uploads, as OpenAI's clients send them, are the exception.
"""

from collections.abc import Callable, Collection, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.errors import ApiError, error_response
from serve.middleware.host import parse_host

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
JSON = "application/json"
DEFAULT_PORTS = {"http": 80, "https": 443}
FOREIGN_ORIGIN = ApiError(
    403,
    "Pages of other origins may not change anything here; the server's config names those that may (cors_origins).",
    param="Origin",
    code="origin_not_allowed",
)


class Cors(CORSMiddleware):
    """Starlette's middleware; its refusals have our error body."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request. Every request header is allowed."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        if not self.is_allowed_origin(request_headers["origin"]):
            why = "Pages of this origin may not call this server; its config names those that may (cors_origins)."
            refused = error_response(ApiError(403, why, param="Origin", code="origin_not_allowed"))
        else:
            why = f"Pages may call with {', '.join(METHODS)} only."
            refused = error_response(
                ApiError(400, why, param="Access-Control-Request-Method", code="method_not_allowed")
            )
        refused.headers["Vary"] = answer.headers["Vary"]
        return refused


class CsrfMiddleware:
    """Answers 403 to state-changing requests of foreign pages; `origins` are those that the config allows.

    A page is the server's own when its origin has the request's host and port, or when the browser reports
    `same-origin`. Browsers report it for loopback and https only; a proxy may then forward any Host.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and self._is_foreign(scope):
            await error_response(FOREIGN_ORIGIN)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_foreign(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        if origins and self._origins.issuperset(origins):
            return False
        if any(site not in ("same-origin", "none") for site in sites):
            return True
        if sites == ["same-origin"]:
            return False
        hosts = headers.getlist("host")
        return not all(_is_same_origin(origin, hosts) for origin in origins)


def _is_same_origin(origin: str, hosts: Collection[str]) -> bool:
    """Whether an origin has the host and port of the only Host header.

    The scheme may differ: a proxy that terminates TLS speaks http with the server.
    """
    scheme, separator, rest = origin.partition("://")
    default = DEFAULT_PORTS.get(scheme)
    if not separator or default is None or len(hosts) != 1:
        return False
    page, server = parse_host(rest), parse_host(*hosts)
    if page is None or server is None:
        return False
    return (page.name, page.port or default) == (server.name, server.port or default)


class TypedRoute(APIRoute):
    """A route that answers 415 to a body of another content type than its own.

    Its types are those of its documented request body: application/json, a form's, or those of `openapi_extra`. A route
    without a documented body ignores any body.
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
            return (getattr(self.body_field.field_info, "media_type", JSON),)
        return tuple((self.openapi_extra or {}).get("requestBody", {}).get("content", {}))


async def _has_type(request: Request, types: tuple[str, ...]) -> bool:
    """Whether the body has one of the types, or there is neither a type nor a body (the endpoint then answers 400)."""
    values = request.headers.getlist("content-type")
    if not values:
        return not await request.body()
    parsed = Message()
    parsed["content-type"] = values[0]
    return len(values) == 1 and parsed.get_content_type() in types
