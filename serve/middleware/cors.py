"""Pages of other origins: those that the config names may call, and others are told so in the one form of errors."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from serve.api.errors import ApiError, response

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Cors(CORSMiddleware):
    """Starlette's, with a refusal that programs can read."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks whether a page may call. Headers that a page sends are free."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        if not self.is_allowed_origin(request_headers["origin"]):
            why = "Pages of this origin may not call this server; its config names those that may (cors_origins)."
            refused = response(ApiError(403, why, param="Origin", code="origin_not_allowed"))
        else:
            why = f"Pages may call with {', '.join(METHODS)} only."
            refused = response(ApiError(400, why, param="Access-Control-Request-Method", code="method_not_allowed"))
        refused.headers["Vary"] = answer.headers["Vary"]
        return refused
