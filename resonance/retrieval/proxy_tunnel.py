"""Pages through an HTTP proxy, which is only ever asked for a tunnel to an address that was checked here.

The proxy resolves no name: what it connects to is the very address that the policy has permitted.
"""

import base64
from collections.abc import Iterable

import httpcore
import httpx

from resonance.retrieval.ssrf import AddressPolicy, CheckedBackend
from resonance.retrieval.types import SearchError

LONGEST_HEAD = 16384  # bytes of the proxy's answer


def proxy_url(text: str) -> httpx.URL:
    """The address of a proxy that pages can be fetched through. Raises SearchError for one of another kind."""
    url = httpx.URL(text)
    if url.scheme != "http" or not url.host:
        raise SearchError(
            "search.proxy must be http://host:port for pages to be fetched through it; say search.pages=0 to use "
            "another kind for the search alone"
        )
    return url


class TunnelBackend(CheckedBackend):
    """Connections through a proxy's CONNECT to checked addresses only."""

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
