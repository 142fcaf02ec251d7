"""API errors, all with the body `{"error": {"message", "type", "param", "code"}}`.

A message never repeats what a client sent, except the names of fields and models.
"""

import json
import logging
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from resonance.errors import error_location
from serve.storage.errors import StoreUnavailable
from serve.storage.quota import QuotaExceeded
from serve.storage.session_locks import SessionBusy

log = logging.getLogger("resonance.serve.access")

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An error response; `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """The error body."""
        return error_body(self.status, self.message, self.param, self.code)


STORE_UNAVAILABLE = "store_unavailable"


def store_unavailable(error: StoreUnavailable) -> ApiError:
    """The error while the database is unavailable, with the cause."""
    return ApiError(503, f"The conversations cannot be reached: {error.cause}.", code=STORE_UNAVAILABLE, retry_after=5)


def quota_exceeded(error: QuotaExceeded) -> ApiError:
    """The error for data that does not fit into the caller's storage quota."""
    return ApiError(
        413,
        f"What you have stored would take {error.would_be} bytes, and {error.limit} are yours (store.max_bytes); "
        "delete conversations or documents to make room.",
        code="storage_quota_exceeded",
    )


def session_busy(why: str, param: str | None = None) -> ApiError:
    """The error for a conversation in which an answer is running."""
    return ApiError(409, why, param=param, code="session_busy", retry_after=1)


@contextmanager
def store_errors() -> Generator[None]:
    """Turn the store's exceptions into API errors."""
    try:
        yield
    except StoreUnavailable as error:
        raise store_unavailable(error) from error
    except QuotaExceeded as error:
        raise quota_exceeded(error) from error
    except SessionBusy as error:
        raise session_busy("An answer in this conversation is still under way.") from error


def not_found(what: str) -> ApiError:
    """The error for an object that the caller does not have."""
    return ApiError(404, f"There is no such {what}.", code="not_found")


def server_full() -> ApiError:
    """The error while all request slots are taken."""
    return ApiError(429, "The server is answering as many requests as it can.", code="server_full", retry_after=1)


def internal_error(request_id: str, error: Exception) -> ApiError:
    """The error for an unexpected exception. The log has its type and location under a request's or answer's id.

    The exception's message is not logged: it may repeat what a client sent.
    """
    log.error(json.dumps({"request_id": request_id, "fault": type(error).__name__, "at": error_location(error)}))
    return ApiError(500, "The server has made a mistake; it goes on.", code="internal_error")


BODY_TOO_LARGE = "The request is larger than the server takes."
CLIENT_GONE = "The client has gone."
BODY_TIMEOUT = "The request's body did not come in time."
MAX_NAME_CHARS = 80  # of an unknown field whose name a message repeats
UNION_BRANCHES = frozenset(
    ("str", "int", "float", "bool", "list", "dict", "none", "constrained-str", "SearchQuery", "NamedTool")
)
"""Parts that pydantic adds to an error's location for the branches of a union."""


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error response."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def add_handlers(app: FastAPI) -> None:
    """Give all error responses of the app our body."""

    async def api_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_response(error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(_validation_error(error.errors(), request))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := _methods(request)):
            headers["Allow"] = ", ".join(methods)
        return JSONResponse(
            error_body(error.status_code, _http_message(error), code=_http_code(error)),
            error.status_code,
            headers=headers,
        )

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def error_response(error: ApiError) -> JSONResponse:
    """The HTTP response of an error."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body(), error.status, headers=headers)


def _methods(request: Request) -> list[str]:
    """All methods of a path. Each has a route of its own; Starlette's 405 names the methods of one route only."""
    path = getattr(request.scope.get("route"), "path", "")
    return sorted(method.upper() for method in request.app.openapi()["paths"].get(path, {}))


def _http_message(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "There is nothing at this address."
        case 405:
            return "This address does not take that method."
        case 400:
            return "The request's body could not be read."
        case _:
            return HTTPStatus(error.status_code).phrase + "."


def _http_code(error: HTTPException) -> str | None:
    return {400: "invalid_body", 404: "not_found", 405: "method_not_allowed"}.get(error.status_code)


def _validation_error(errors: Sequence[Mapping[str, Any]], request: Request) -> ApiError:
    """The error for an invalid request. Pydantic's own messages would repeat what was sent."""
    error = _most_specific(errors)
    where: Sequence[int | str] = error["loc"]
    source, *path = where or ("body",)
    param = (
        ".".join(str(part) for part in path if part not in UNION_BRANCHES and re.fullmatch(r"[\w-]+", str(part)))
        or None
    )
    match error["type"]:
        case "json_invalid":
            return ApiError(400, "The request's body is not JSON.", code="invalid_json")
        case "missing" | "model_attributes_type" if not path:
            return ApiError(
                400,
                "The request needs a JSON object as its body, with Content-Type: application/json.",
                code="missing_body",
            )
        case "missing":
            return ApiError(400, f"{param} is missing.", param=param, code="missing_field")
        case "extra_forbidden":
            known = param if param and len(param) <= MAX_NAME_CHARS else None
            name = f"field {known!r}{_did_you_mean(str(path[-1]), request)}" if known else "such field in a request."
            return ApiError(400, f"There is no {name}", param=known, code="unknown_field")
        case "unsupported":
            return ApiError(
                400, f"{param} is not supported by this server; leave it out.", param=param, code="unsupported_field"
            )
        case _:
            subject = param or ("The body" if source == "body" else str(source))
            message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
            return ApiError(400, f"{subject}: {message}.", param=param, code="invalid_value")


def _most_specific(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The most specific of the errors that a union's branches give: the deepest, about a value rather than a type."""

    def specificity(error: Mapping[str, Any]) -> tuple[bool, int, bool]:
        return error["type"] == "unsupported", len(error["loc"]), not error["type"].endswith("_type")

    return max(errors, key=specificity)


def _did_you_mean(name: str, request: Request) -> str:
    route = request.scope.get("route")
    body = getattr(route, "body_field", None)
    model = getattr(getattr(body, "field_info", None), "annotation", None)
    close = get_close_matches(name, list(getattr(model, "model_fields", {})), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."
