"""Pages are fetched within bounds, from public addresses only; real servers on this machine stand for both."""

import asyncio
import contextlib
import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import trustme

from resonance.chat_template import Message
from resonance.retrieval import SearchError, build_retriever
from resonance.retrieval.cache import Cache
from resonance.retrieval.fetch import LARGEST, CheckedTransport, PageError, Pages, article_text
from resonance.retrieval.ssrf import AddressPolicy, ForbiddenAddress, is_public

ARTICLE = """<html><head><title>Varnholm</title></head><body><nav>Home News Shop Login</nav><article>
<h1>The lighthouse of Varnholm</h1><p>The lighthouse of Varnholm was built in 1874 by the harbour board.
It is 31 metres tall and stands on the northern mole.</p><p>Its lamp was electrified in 1921, and since 1988
it has worked without a keeper.</p></article><footer>Copyright</footer></body></html>"""

# Each class of address that must never be connected to.
DENIED = {
    "loopback": "127.0.0.1",
    "all of loopback": "127.255.3.4",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "private 10": "10.1.2.3",
    "private 172": "172.16.9.9",
    "private 192": "192.168.1.1",
    "carrier-grade NAT": "100.64.0.1",
    "link-local and metadata": "169.254.169.254",
    "metadata of Azure": "168.63.129.16",
    "protocol assignments": "192.0.0.8",
    "protocol assignments that Python lets pass": "192.0.0.9",
    "documentation 1": "192.0.2.1",
    "documentation 2": "198.51.100.7",
    "documentation 3": "203.0.113.7",
    "6to4 relay": "192.88.99.1",
    "benchmarking": "198.18.0.1",
    "multicast": "224.0.0.1",
    "global multicast": "233.252.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv4-mapped loopback": "::ffff:127.0.0.1",
    "IPv4-mapped public": "::ffff:8.8.8.8",
    "IPv4-compatible": "::7f00:1",
    "NAT64": "64:ff9b::7f00:1",
    "NAT64 of a public address": "64:ff9b::808:808",
    "local NAT64": "64:ff9b:1::1",
    "6to4": "2002:7f00:1::",
    "6to4 of a public address": "2002:808:808::1",
    "Teredo": "2001:0:7f00:1::1",
    "ORCHID": "2001:20::1",
    "IPv6 documentation": "2001:db8::1",
    "newer IPv6 documentation": "3fff::1",
    "segment routing": "5f00::1",
    "discard": "100::1",
    "unique local": "fd12:3456::1",
    "metadata of AWS over IPv6": "fd00:ec2::254",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with a zone": "fe80::1%eth0",
    "site-local": "fec0::1",
    "IPv6 multicast": "ff02::1",
    "IPv6 global multicast": "ff0e::1",
}
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]


class Site:
    """A web server on an address of this machine; `pages` maps a path to (status, headers, body)."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.delays: dict[str, float] = {}
        self.endless = False
        self.sent = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                time.sleep(site.delays.get(self.path, 0.0))
                status, headers, body = site.pages.get(self.path, (404, {}, b""))
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in {"Content-Type": "text/html", **headers}.items():
                        self.send_header(name, value)
                    if not site.endless:
                        self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    while site.endless:
                        self.wfile.write(b"<p>more</p>" * 1000)
                        site.sent += 11_000

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer((host, 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.endless = False
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    made.pages["/a"] = (200, {}, ARTICLE.encode())
    yield made
    made.close()


def pages(policy: AddressPolicy | None = None) -> Pages:
    return Pages(policy or AddressPolicy.of(["127.0.0.1/32"]), Cache(None), ttl=3600.0, failures_ttl=60.0)


def fetch(url: str, policy: AddressPolicy | None = None) -> str:
    async def once() -> str:
        reader = pages(policy)
        async with reader.client() as client:
            return await reader.fetch(client, url)

    return asyncio.run(once())


def answering(*addresses: str):
    """A resolver with fixed answers, which also keeps what it was asked."""
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return list(addresses)

    return resolver, asked


@pytest.mark.parametrize("name", DENIED)
def test_an_address_inside_is_not_public(name):
    assert not is_public(ipaddress.ip_address(DENIED[name]))
    assert not AddressPolicy().permits(DENIED[name], 443)


@pytest.mark.parametrize("name", DENIED)
def test_a_name_that_leads_inside_is_not_connected_to(name):
    resolver, _ = answering(DENIED[name])
    with pytest.raises(ForbiddenAddress):
        fetch("http://innocent.example/", AddressPolicy(resolver=resolver))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_passes_on_web_ports_only(address):
    assert AddressPolicy().permits(address, 80) and AddressPolicy().permits(address, 443)
    assert not any(AddressPolicy().permits(address, port) for port in (22, 25, 3306, 6379, 8080, 0))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0x7f.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "127.0.0.1.",
        "LOCALHOST",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "localhost.",
        "loca\u00adlhost",
        "[::1%25lo]",
        "[::ffff:127.0.0.1%25lo]",
        "[::ffff:0:127.0.0.1]",
        "example.com%40127.0.0.1",
        "xn--a.example",
    ],
)
def test_no_spelling_of_this_machine_reaches_its_server(site, host):
    open_port = AddressPolicy(ports=frozenset((site.port,)))
    with pytest.raises((ForbiddenAddress, httpx.HTTPError, httpx.InvalidURL, UnicodeError)):
        fetch(f"http://{host}:{site.port}/a", open_port)
    assert site.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.example/",
        "gopher://a.example/",
        "data:text/html,x",
        "javascript:1",
        "//a",
        "a",
        "http://user:secret@a.example/",
        "http:///path",
    ],
)
def test_only_plain_web_addresses_are_fetched(url):
    with pytest.raises((ForbiddenAddress, httpx.InvalidURL)):
        fetch(url)


def test_one_inner_address_among_public_ones_is_enough_to_refuse():
    resolver, _ = answering("93.184.216.34", "10.0.0.1")
    with pytest.raises(ForbiddenAddress):
        fetch("http://mixed.example/", AddressPolicy(resolver=resolver))


def test_the_connection_goes_to_the_address_that_was_checked(site):
    # The name has no address but the resolver's, and is asked for once: no second answer can differ.
    resolver, asked = answering("127.0.0.1")
    policy = AddressPolicy((ipaddress.ip_network("127.0.0.1/32"),), resolver=resolver)
    assert "1874" in fetch(f"http://varnholm.example:{site.port}/a", policy)
    assert asked == ["varnholm.example"]


def test_each_redirect_is_checked_again(site):
    inside = Site("127.0.0.2")
    inside.pages["/secret"] = (200, {}, ARTICLE.encode())
    site.pages["/go"] = (302, {"Location": f"{inside.url}/secret"}, b"")
    with pytest.raises(ForbiddenAddress):
        fetch(f"{site.url}/go")
    assert site.asked == ["/go"] and inside.asked == []
    inside.close()


def test_a_redirect_to_a_file_is_refused(site):
    site.pages["/go"] = (302, {"Location": "file:///etc/passwd"}, b"")
    with pytest.raises(ForbiddenAddress):
        fetch(f"{site.url}/go")


def test_three_redirects_are_followed_and_a_fourth_is_not(site):
    for step in range(5):
        site.pages[f"/{step}"] = (301, {"Location": f"/{step + 1}"}, b"")
    site.pages["/5"] = (200, {}, ARTICLE.encode())
    assert "1874" in fetch(f"{site.url}/2")
    with pytest.raises(PageError, match="redirects"):
        fetch(f"{site.url}/1")


def test_no_proxy_of_the_environment_is_used(site, monkeypatch):
    proxy = Site()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    assert "1874" in fetch(f"{site.url}/a")
    assert proxy.asked == []
    proxy.close()


def test_a_certificate_that_nobody_vouches_for_is_refused():
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    secure = Site(tls=context)
    secure.pages["/a"] = (200, {}, ARTICLE.encode())
    with pytest.raises(httpx.ConnectError):
        fetch(f"{secure.url}/a")
    assert secure.asked == []
    secure.close()


def test_pages_are_asked_for_by_http_2_where_the_server_speaks_it():
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    heard: list[bytes] = []

    def listen(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with context.wrap_socket(client, server_side=True) as secure:
            heard.append(secure.recv(24))

    async def ask(port: int) -> None:
        transport = CheckedTransport(AddressPolicy.of(["127.0.0.1/32"]), trusting)
        async with httpx.AsyncClient(transport=transport, timeout=10) as client:
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"https://127.0.0.1:{port}/")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=listen, args=(listener,))
        server.start()
        asyncio.run(ask(listener.getsockname()[1]))
        server.join(10)
    assert heard == [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]


def test_the_article_comes_without_navigation_and_hidden_text(site):
    hidden = (
        "<p style='display:none'>OWNED one</p><div style='opacity: 0'>OWNED two</div><p hidden>OWNED three</p>"
        "<p aria-hidden='true'>OWNED four</p><p style='position:absolute;left:-9999px'>OWNED five</p>"
        "<p style='font-size:0px'>OWNED six</p><p class='sr-only'>OWNED seven</p><!-- OWNED eight -->"
        "<noscript>OWNED nine</noscript><p style='VISIBILITY : HIDDEN !important'>OWNED ten</p>"
        "<template>OWNED eleven</template><p style='text-indent:-9999px'>OWNED twelve</p>"
        "<p style='color: transparent'>OWNED thirteen</p><p style='font-size:1px'>OWNED fourteen</p>"
    )
    site.pages["/hidden"] = (200, {}, ARTICLE.replace("</article>", f"{hidden}</article>").encode())
    text = fetch(f"{site.url}/hidden")
    assert "built in 1874" in text and "1988" in text
    assert "OWNED" not in text and "Login" not in text


@pytest.mark.parametrize(
    "style",
    ["font-size:0.9rem", "margin-left:-150px", "line-height:0.8", "opacity:0.9", "max-width:0.5em", "width:100%"],
)
def test_what_a_reader_sees_stays_however_it_is_laid_out(style):
    assert "built in 1874" in article_text(ARTICLE.replace("<article>", f"<article style='{style}'>"))


def test_a_page_that_is_one_form_is_read_without_its_buttons():
    page = ARTICLE.replace("<body>", "<body><form><button>Send</button>").replace("</body>", "</form></body>")
    text = article_text(page)
    assert "built in 1874" in text and "Send" not in text


@pytest.mark.parametrize(
    ("headers", "encoding"),
    [
        ({"Content-Type": "text/html; charset=iso-8859-1"}, "iso-8859-1"),
        ({"Content-Type": "text/html; charset=utf-8"}, "utf-8"),
        ({"Content-Type": "text/html; charset=nonsense"}, "ascii"),
    ],
)
def test_text_is_decoded_as_the_page_says(site, headers, encoding):
    word = "Børnholm" if encoding != "ascii" else "Bornholm"
    site.pages["/c"] = (200, headers, ARTICLE.replace("Varnholm", word).encode(encoding))
    assert f"lighthouse of {word}" in fetch(f"{site.url}/c")


def test_plain_text_is_read_as_it_is(site):
    site.pages["/t"] = (200, {"Content-Type": "text/plain"}, "A < B & C > D, naïve.".encode())
    assert fetch(f"{site.url}/t") == "A < B & C > D, naïve."


@pytest.mark.parametrize("kind", ["application/pdf", "image/png", "application/octet-stream", "application/json", ""])
def test_other_types_are_not_read(site, kind):
    site.pages["/b"] = (200, {"Content-Type": kind}, ARTICLE.encode())
    with pytest.raises(PageError):
        fetch(f"{site.url}/b")


@pytest.mark.parametrize("status", [204, 401, 404, 500])
def test_other_statuses_are_not_read(site, status):
    site.pages["/s"] = (status, {}, b"")
    with pytest.raises(PageError, match=str(status)):
        fetch(f"{site.url}/s")


def test_no_more_than_a_megabyte_is_read(site):
    site.pages["/endless"] = (200, {}, b"<html><body>")
    site.endless = True
    assert fetch(f"{site.url}/endless")
    time.sleep(0.1)
    assert site.sent < 8 * LARGEST  # the rest filled the sockets' buffers at most


def test_a_small_page_that_unpacks_to_a_large_one_is_cut(site):
    bomb = gzip.compress(b"<html><body><p>" + b"bomb " * 6_000_000)
    site.pages["/bomb"] = (200, {"Content-Encoding": "gzip"}, bomb)
    site.pages["/gzip"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(ARTICLE.encode()))
    assert len(fetch(f"{site.url}/bomb")) <= LARGEST
    assert "1874" in fetch(f"{site.url}/gzip")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_an_encoding_that_was_not_asked_for_is_refused(site, encoding):
    site.pages["/e"] = (200, {"Content-Encoding": encoding}, b"\x00\x01")
    with pytest.raises(PageError):
        fetch(f"{site.url}/e")


@pytest.mark.parametrize(
    "page", ["", " ", "<", "<html>", "\x00", "<p>" * 3000, "<!-- only -->", "<html><body></body></html>"]
)
def test_broken_pages_have_little_text_and_no_fault(page):
    assert len(article_text(page)) < 50


def test_slow_pages_are_left_behind_and_the_others_count(site):
    site.pages["/slow"] = site.pages["/a"]
    site.delays["/slow"] = 2.0
    started = time.perf_counter()
    texts = asyncio.run(
        pages().read([f"{site.url}/a", f"{site.url}/slow", f"{site.url}/missing", "http://10.0.0.1/"], deadline=0.8)
    )
    assert list(texts) == [f"{site.url}/a"]
    assert time.perf_counter() - started < 1.8


def test_a_page_is_fetched_once_and_a_failure_is_not_repeated_at_once(site):
    reader = pages()
    for _ in range(2):
        asyncio.run(reader.read([f"{site.url}/a", f"{site.url}/missing"], deadline=3.0))
    assert sorted(site.asked) == ["/a", "/missing"]


def test_a_page_is_good_for_a_day_and_a_failure_for_a_minute(site):
    now = 1_000_000.0
    reader = Pages(AddressPolicy.of(["127.0.0.1/32"]), Cache(None, clock=lambda: now), ttl=86400.0, failures_ttl=60.0)
    urls = [f"{site.url}/a", f"{site.url}/missing"]
    for seconds, asked in ((0.0, ["/a", "/missing"]), (59.0, []), (61.0, ["/missing"]), (86401.0, ["/a", "/missing"])):
        now = 1_000_000.0 + seconds
        site.asked.clear()
        assert list(asyncio.run(reader.read(urls, deadline=5.0))) == urls[:1]
        assert sorted(site.asked) == asked


def test_a_network_that_is_none_is_an_error_with_the_right_form():
    with pytest.raises(SearchError, match=r"10\.1\.0\.0/16"):
        build_retriever("duckduckgo", pages=1, allow_networks=["my network"])


def test_the_answer_draws_on_the_page_and_not_only_on_the_snippet(site):
    results = (
        "<div id='links' class='results'><div class='result__body'><h2><a href='{url}'>Varnholm</a></h2>"
        "<a class='result__snippet' href='{url}'>All about the lighthouse of Varnholm.</a></div></div>"
    )
    duck = Site()
    page = f"<html><body>{results.format(url=f'{site.url}/a')}</body></html>".encode()

    class Posts(duck.server.RequestHandlerClass):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            duck.pages[self.path] = (200, {}, page)
            self.do_GET()

    duck.server.RequestHandlerClass = Posts
    built = build_retriever(
        "duckduckgo", search_url=f"{duck.url}/html/", pages=1, allow_networks=["127.0.0.1/32"], limits={"spacing": 0.0}
    )
    assert built is not None
    found = asyncio.run(
        built.retrieve(
            [Message("user", "When was the lamp of the lighthouse of Varnholm electrified?")],
            budget_tokens=300,
            count_tokens=lambda text: len(text.split()),
        )
    )
    assert "electrified in 1921" in found.context
    duck.close()
