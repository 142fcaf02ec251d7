"""The older package, duckduckgo-search, against a server that plays DuckDuckGo behind a CONNECT proxy."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import trustme

from resonance.retrieval import RateLimited, Timeout
from resonance.retrieval.duckduckgo_search_adapter import DuckDuckGoSearch
from resonance.retrieval.types import ConnectionFailed


class TunnelToFake:
    """A CONNECT proxy that leads every host to a TLS front of the fake, with a certificate of its own."""

    def __init__(self, fake) -> None:
        authority = trustme.CA()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("html.duckduckgo.com").configure_cert(self.context)
        self.target = fake.server.server_port
        self.hosts: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(4096)
            self.hosts.append(request.split()[1].decode())
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            plain = self.context.wrap_socket(client, server_side=True)
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                threading.Thread(target=self._copy, args=(server, plain), daemon=True).start()
                self._copy(plain, server)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)  # what breaks off on one side does so on the other


def search_older(fake, tunnel: TunnelToFake, timeout: float = 5.0, verify: bool = False):
    provider = DuckDuckGoSearch(timeout=timeout, proxy=tunnel.url, verify=verify)
    return asyncio.run(provider.search("capital of France", 8, "us-en", None))


@pytest.fixture
def tunnel(fake) -> Iterator[TunnelToFake]:
    proxy = TunnelToFake(fake)
    yield proxy
    proxy.listener.close()


def test_it_finds_the_same(fake, tunnel):
    hits = search_older(fake, tunnel)
    assert [(h.title, h.snippet) for h in hits] == [
        ("Paris - Encyclopedia", "Paris is the capital of France."),
        ("Visit Paris", "Hotels and museums in Paris."),
    ]
    assert tunnel.hosts == ["html.duckduckgo.com:443"]
    assert fake.asked[0]["q"] == ["capital of France"] and fake.asked[0]["kl"] == ["us-en"]


def test_it_leaves_out_advertisements_and_unwraps_redirects(fake, tunnel):
    fake.shows(
        ("Buy Paris", "https://duckduckgo.com/y.js?ad_domain=shop.example", "Cheap!"),
        ("Paris", f"//duckduckgo.com/l/?uddg={quote('https://a.example/x', safe='')}&rut=0", "The city."),
    )
    assert [hit.url for hit in search_older(fake, tunnel)] == ["https://a.example/x"]


def test_finding_nothing_is_an_empty_list(fake, tunnel):
    fake.page = fake.PAGES["empty"]
    assert search_older(fake, tunnel) == []


@pytest.mark.parametrize("status", [202, 403, 418, 429])
def test_a_refusal_is_a_rate_limit(fake, tunnel, status):
    fake.status = status
    with pytest.raises(RateLimited):
        search_older(fake, tunnel)


def test_a_challenge_is_a_rate_limit(fake, tunnel):
    fake.page = fake.PAGES["challenge"]
    with pytest.raises(RateLimited):
        search_older(fake, tunnel)


def test_a_slow_answer_is_a_timeout(fake, tunnel):
    fake.delay = 1.0
    with pytest.raises(Timeout):
        search_older(fake, tunnel, timeout=0.3)


def test_an_answer_that_breaks_off_is_a_failed_connection(fake, tunnel):
    fake.truncate = True
    with pytest.raises(ConnectionFailed):
        search_older(fake, tunnel)


def test_it_brings_unicode_whole(fake, tunnel):
    fake.shows(("東京 – Größe &amp; naïve", "https://日本.example/東京", "Café 👩‍👩‍👧 “quoted”"))
    (hit,) = search_older(fake, tunnel)
    assert (hit.title, hit.url) == ("東京 – Größe & naïve", "https://日本.example/東京")
    assert hit.snippet.startswith("Café") and hit.snippet.endswith("“quoted”")


def test_it_does_not_trust_a_strange_certificate(fake, tunnel):
    with pytest.raises(ConnectionFailed):
        search_older(fake, tunnel, verify=True)
