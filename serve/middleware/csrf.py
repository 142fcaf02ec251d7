"""State-changing requests that pages of other origins make a browser send: refused, whatever they carry.

A browser says where such a request comes from (Origin, Sec-Fetch-Site); what is no browser says nothing, and passes.
"""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.errors import ApiError, response
from serve.middleware.host import parse_host

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
DEFAULT_PORTS = {"http": 80, "https": 443}
REFUSED = ApiError(
    403,
    "Pages of other origins may not change anything here; the server's config names those that may (cors_origins).",
    param="Origin",
    code="origin_not_allowed",
)


class CsrfProtection:
    """Answers 403 to state-changing requests of foreign pages; `origins` are those that the config allows.

    A page is the server's own when its origin has the request's host and port, or when the browser itself says
    `same-origin`: it does so for loopback and https alone, so that a proxy may send any Host on.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and self._is_foreign(scope):
            await response(REFUSED)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_foreign(self, scope: Scope) -> bool:
        origins = _values(scope, b"origin")
        sites = _values(scope, b"sec-fetch-site")
        if origins and self._origins.issuperset(origins):
            return False
        if any(site not in ("same-origin", "none") for site in sites):
            return True
        if sites == ["same-origin"]:
            return False
        hosts = _values(scope, b"host")
        return not all(is_own(origin, hosts) for origin in origins)


def is_own(origin: str, hosts: Collection[str]) -> bool:
    """Whether an origin has the host and port of the one Host header.

    The scheme may differ, as a proxy that ends TLS speaks http with the server.
    """
    scheme, separator, rest = origin.partition("://")
    default = DEFAULT_PORTS.get(scheme)
    if not separator or default is None or len(hosts) != 1:
        return False
    theirs, ours = parse_host(rest), parse_host(*hosts)
    if theirs is None or ours is None:
        return False
    return (theirs.name, theirs.port or default) == (ours.name, ours.port or default)


def _values(scope: Scope, header: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == header]
