"""Protection against server-side request forgery: connections go to public addresses only, checked after resolution.

Based on `ipaddress.is_global`; non-public ranges that it accepts in Python 3.11 (address translation, tunnels,
site-local, multicast) are denied explicitly. With a proxy, the proxy gets CONNECT requests to checked addresses only
and resolves no names.
"""

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import httpcore
import httpx

from resonance.retrieval.types import SearchError

LONGEST_HEAD = 16384  # bytes of a proxy's response head
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_DENIED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # shared address space of carriers
        "169.254.0.0/16",  # link-local: the metadata services of clouds
        "192.0.0.0/24",  # protocol assignments; Python lets parts of it pass
        "192.88.99.0/24",  # 6to4 relays
        "224.0.0.0/4",  # multicast; is_global is true for most of it
        "240.0.0.0/4",
        "::/96",  # IPv4-compatible
        "64:ff9b::/96",  # NAT64: any IPv4 address behind it
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2002::/16",  # 6to4: any IPv4 address inside it
        "3fff::/20",  # documentation, newer than Python's list
        "5f00::/16",  # segment routing inside a network, likewise
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",  # site-local, deprecated but still routed by some
        "ff00::/8",  # multicast
    )
)
# Cloud metadata services at addresses that look public.
_METADATA = frozenset(ipaddress.ip_address(text) for text in ("168.63.129.16", "fd00:ec2::254"))


class ForbiddenAddress(Exception):
    """A host or port that pages must not be fetched from; the message names both."""


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, from the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The addresses and ports that connections may go to.

    `allowed` networks are permitted on every port although they are not public; public addresses are permitted on
    `ports`.
    """

    allowed: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset((80, 443))
    resolver: Resolver = resolve

    @classmethod
    def of(cls, networks: Iterable[str]) -> "AddressPolicy":
        """A policy that also allows these networks. Raises SearchError for an invalid network."""
        allowed: list[Network] = []
        for network in networks:
            try:
                allowed.append(ipaddress.ip_network(network))
            except ValueError as error:
                raise SearchError(f"search.allow_networks holds {network!r}: {error}; write 10.1.0.0/16") from error
        return cls(tuple(allowed))

    def permits(self, address: str, port: int) -> bool:
        """Whether connections to a numeric address and port are permitted."""
        try:
            parsed = ipaddress.ip_address(address.split("%", 1)[0])
        except ValueError:
            return False
        if any(parsed in network for network in self.allowed):
            return True
        return port in self.ports and is_public(parsed)

    async def choose(self, host: str, port: int) -> str:
        """Resolve a host and choose its address; all of its addresses must be permitted.

        Raises ForbiddenAddress if one is not, OSError if the host is unknown.
        """
        addresses = await self.resolver(host, port)
        if not addresses:
            raise ForbiddenAddress(f"{host} has no address")
        for address in addresses:
            if not self.permits(address, port):
                raise ForbiddenAddress(f"{host} leads to {address} port {port}, which is not public")
        return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address, and any IPv4 address embedded in it, is public."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return False  # public hosts are not addressed this way
        if address.scope_id is not None:
            return False
    if address in _METADATA or any(address in network for network in _DENIED if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a host once, checks its addresses, and connects to the checked address."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._network = cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the checked address of `host`; TLS still verifies the name."""
        try:
            address = await asyncio.wait_for(self._policy.choose(host, port), timeout)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} is not known") from error
        return await self._connect(address, port, timeout, local_address, socket_options)

    async def _connect(
        self,
        address: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: pages are never behind a Unix socket."""
        raise ForbiddenAddress(f"{path} is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Sleep, for httpcore's own retries."""
        await self._network.sleep(seconds)


def proxy_url(text: str) -> httpx.URL:
    """Parse the URL of an HTTP proxy for pages. Raises SearchError for another kind of proxy."""
    url = httpx.URL(text)
    if url.scheme != "http" or not url.host:
        raise SearchError(
            "search.proxy must be http://host:port for pages to be fetched through it; say search.pages=0 to use "
            "another kind for the search alone"
        )
    return url


class TunnelBackend(CheckedBackend):
    """Connects through an HTTP proxy's CONNECT, to checked addresses only."""

    def __init__(self, policy: AddressPolicy, proxy: httpx.URL) -> None:
        super().__init__(policy)
        self._proxy = proxy

    async def _connect(
        self,
        address: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._network.connect_tcp(
            self._proxy.host, self._proxy.port or 80, timeout, local_address, socket_options
        )
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if self._proxy.userinfo:
            user = f"{self._proxy.username}:{self._proxy.password}".encode()
            head += f"Proxy-Authorization: Basic {base64.b64encode(user).decode()}\r\n"
        await stream.write(f"{head}\r\n".encode(), timeout)
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = await stream.read(4096, timeout)
            answer += part
            if not part or len(answer) > LONGEST_HEAD:
                break
        if answer.split(b" ")[1:2] != [b"200"]:
            await stream.aclose()
            raise httpcore.ProxyError("the proxy makes no tunnel")
        return stream
