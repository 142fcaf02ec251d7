"""The Host header: loopback names, the server's own address, and the configured names are allowed.

A page can make its own host name resolve to this machine (DNS rebinding), and its requests are then same-origin. The
browser still sends that name as Host, so the request is refused here.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.errors import ApiError, error_response

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,255}))(?::(?P<port>[0-9]{1,5}))?")
HOST_NOT_ALLOWED = ApiError(
    403,
    "This server does not answer under this host name. Call it as localhost, or let its config name the host "
    "(allowed_hosts).",
    param="Host",
    code="host_not_allowed",
)


@dataclass(frozen=True, slots=True)
class Host:
    """A host name or address in its normal form, and the port where there is one."""

    name: str
    port: int | None


def parse_host(text: str) -> Host | None:
    """Parse the value of a Host header, or the part of an origin after its scheme; None where it is invalid."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    v6, name = match["v6"], normal_name(match["v6"] or match["name"])
    port = None if match["port"] is None else int(match["port"])
    if not name or (v6 is not None and not (":" in v6 and _is_address(v6))) or (port is not None and port > 65535):
        return None
    return Host(name, port)


def normal_name(name: str) -> str:
    """A host name in lower case without the trailing dot; an address in Python's form, IPv4-mapped IPv6 as IPv4."""
    name = name.lower().removesuffix(".")
    try:
        address = ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def is_loopback(name: str) -> bool:
    """Whether a normal name always resolves to loopback; `*.localhost` does by RFC 6761, section 6.3."""
    return name == "localhost" or name.endswith(".localhost") or (_is_address(name) and ip_address(name).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class HostMiddleware:
    """Answers 403 to requests without exactly one Host header, and to those with a host that is not allowed.

    `names` are the configured names, `bound` is the address that the server listens on. The local address of the
    connection is allowed as well: an address cannot be rebound like a name.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], bound: str) -> None:
        self.app = app
        self._names = frozenset(map(normal_name, (*names, bound)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not self._is_allowed(scope):
            await error_response(HOST_NOT_ALLOWED)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        host = parse_host(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            return False
        local = scope.get("server")
        return (
            is_loopback(host.name)
            or host.name in self._names
            or (local is not None and host.name == normal_name(local[0]))
        )
