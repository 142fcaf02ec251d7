"""The one form in which the server says no: `{"error": {"message", "type", "param", "code"}}`.

Nothing of what a client sent is ever repeated in a message, but for the names of fields and models.
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
    """An answer that is an error; `retry_after` is in seconds."""

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
        """The error in the design's form."""
        return error_body(self.status, self.message, self.param, self.code)


STORE_UNAVAILABLE = "store_unavailable"


def store_unavailable(error: StoreUnavailable) -> ApiError:
    """The error of everything that needs the database while it does not answer; it says why."""
    return ApiError(503, f"The conversations cannot be reached: {error.cause}.", code=STORE_UNAVAILABLE, retry_after=5)


def quota_exceeded(error: QuotaExceeded) -> ApiError:
    """The error of what does not fit into the caller's share of the store."""
    return ApiError(
        413,
        f"What you have stored would take {error.would_be} bytes, and {error.limit} are yours (store.max_bytes); "
        "delete conversations to make room.",
        code="storage_quota_exceeded",
    )


def session_busy(why: str, param: str | None = None) -> ApiError:
    """The error of what must wait for an answer that is under way in a conversation."""
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
    """The error of a request for which there is no place."""
    return ApiError(429, "The server is answering as many requests as it can.", code="server_full", retry_after=1)


def internal_error(name: str, error: Exception) -> ApiError:
    """The error of what nobody foresaw. The log has, under a request's or an answer's name, where it happened.

    The error's own words are left out: they may repeat what a client has sent.
    """
    log.error(json.dumps({"request_id": name, "fault": type(error).__name__, "at": error_location(error)}))
    return ApiError(500, "The server has made a internal_error; it goes on.", code="internal_error")


BODY_TOO_LARGE = "The request is larger than the server takes."
CLIENT_GONE = "The client has gone."
BODY_TIMEOUT = "The request's body did not come in time."
LONGEST_NAME = 80  # of a field that does not exist, to be repeated
BRANCHES = frozenset(("str", "int", "float", "bool", "list", "dict", "none", "constrained-str", "SearchQuery"))
"""What pydantic puts into a location for the branches of a union; a reader only needs the field."""


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The one form of all errors."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def install(app: FastAPI) -> None:
    """Give every error of the app that form."""

    async def api_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_response(error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(_from_validation(error.errors(), request))

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
    """All methods of an address; each of them has a route of its own, and a 405 knows but one."""
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


def _from_validation(errors: Sequence[Mapping[str, Any]], request: Request) -> ApiError:
    """The first internal_error of a request, in words; pydantic's own answer would repeat what was sent."""
    error = _nearest(errors)
    where: Sequence[int | str] = error["loc"]
    source, *path = where or ("body",)
    param = ".".join(str(part) for part in path if part not in BRANCHES and re.fullmatch(r"[\w-]+", str(part))) or None
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
            known = param if param and len(param) <= LONGEST_NAME else None
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


def _nearest(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of a union's many complaints the one that goes deepest, and is not of the type: what was most likely meant."""

    def nearness(error: Mapping[str, Any]) -> tuple[bool, int, bool]:
        return error["type"] == "unsupported", len(error["loc"]), not error["type"].endswith("_type")

    return max(errors, key=nearness)


def _did_you_mean(name: str, request: Request) -> str:
    route = request.scope.get("route")
    body = getattr(route, "body_field", None)
    model = getattr(getattr(body, "field_info", None), "annotation", None)
    close = get_close_matches(name, list(getattr(model, "model_fields", {})), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."
