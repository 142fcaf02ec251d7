"""The real ddgs and duckduckgo-search clients against a server that plays DuckDuckGo."""

import asyncio
import contextlib
import html
import json
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote

import pytest
import trustme
from omegaconf import OmegaConf

from resonance import Tokenizer
from resonance.chat import Message
from resonance.config import compose
from resonance.terminal import main as chat
from serve.rag import RateLimited, Timeout, Unavailable, build_retriever
from serve.rag.cache import Cache
from serve.rag.contract import Budget, ConnectionFailed, Limits
from serve.rag.duckduckgo import DuckDuckGo
from serve.rag.duckduckgo_search_adapter import DuckDuckGoSearch
from serve.rag.polite import Polite
from serve.rag.retriever import Retriever, Scope

RESULT = """<div class="result results_links web-result">
<div class="links_main links_deep result__body">
<h2 class="result__title"><a rel="nofollow" class="result__a" href="{url}">{title}</a></h2>
<div class="result__extras"><div class="result__extras__url"><a class="result__url" href="{url}">{url}</a></div></div>
<a class="result__snippet" href="{url}">{snippet}</a><div class="clear"></div></div></div>"""
PAGE = """<!DOCTYPE html><html><head><meta http-equiv="content-type" content="text/html; charset=UTF-8">
<title>{query} at DuckDuckGo</title></head><body>
<form id="search_form_homepage"><input name="q" value="{query}"></form>
<div class="serp__results"><div id="links" class="results">{results}</div></div></body></html>"""
EMPTY = PAGE.format(query="x", results='<div class="no-results">No  results.</div>')
CHALLENGE = """<html><body><form id="challenge-form" action="//duckduckgo.com/anomaly.js?sv=html" method="POST">
<div class="anomaly-modal__title">Unfortunately, bots use DuckDuckGo too.</div></form></body></html>"""


def page(*results: tuple[str, str, str]) -> str:
    return PAGE.format(
        query="q",
        results="".join(RESULT.format(url=html.escape(u), title=t, snippet=s) for t, u, s in results),
    )


PARIS = page(
    ("Paris - Encyclopedia", "https://en.encyclopedia.example/Paris", "<b>Paris</b> is the capital of <b>France</b>."),
    ("Visit Paris", "https://visit.example/paris?a=1&b=%20c", "Hotels and museums in Paris."),
)


class FakeDuckDuckGo:
    """Answers every request with the same status and page; counts and keeps what was asked."""

    def __init__(self) -> None:
        self.status, self.page, self.delay, self.truncate = 200, PARIS, 0.0, False
        self.asked: list[dict[str, list[str]]] = []
        self.times: list[float] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                fake.asked.append(parse_qs(body))
                fake.times.append(time.monotonic())
                time.sleep(fake.delay)
                data = fake.page.encode()
                self.send_response(fake.status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data[: len(data) // 2] if fake.truncate else data)
                if fake.truncate:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/html/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def fake() -> Iterator[FakeDuckDuckGo]:
    server = FakeDuckDuckGo()
    yield server
    server.server.shutdown()
    server.server.server_close()


class TunnelToFake:
    """A CONNECT proxy that leads every host to a TLS front of the fake, with a certificate of its own."""

    def __init__(self, fake: FakeDuckDuckGo) -> None:
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


def search(fake: FakeDuckDuckGo, query: str = "capital of France", timeout: float = 5.0, k: int = 8):
    provider = DuckDuckGo(fake.url, timeout=timeout)
    return asyncio.run(provider.search(query, k, "us-en", None))


def test_results_are_hits_in_order_with_plain_text(fake):
    hits = search(fake)
    assert [(h.title, h.url, h.snippet, h.rank, h.provider) for h in hits] == [
        (
            "Paris - Encyclopedia",
            "https://en.encyclopedia.example/Paris",
            "Paris is the capital of France.",
            0,
            "duckduckgo",
        ),
        ("Visit Paris", "https://visit.example/paris?a=1&b=%20c", "Hotels and museums in Paris.", 1, "duckduckgo"),
    ]


def test_the_query_and_region_are_what_is_sent(fake):
    search(fake, "Größe der Sonne 東京")
    assert fake.asked[0]["q"] == ["Größe der Sonne 東京"]
    assert fake.asked[0]["l"] == ["us-en"]


def test_at_most_k_hits_come_back(fake):
    fake.page = page(*((f"T{i}", f"https://s{i}.example/", "text") for i in range(20)))
    assert len(search(fake, k=3)) == 3


def test_nothing_found_is_an_empty_list(fake):
    fake.page = EMPTY
    assert search(fake) == []


@pytest.mark.parametrize("status", [202, 403, 418, 429])
def test_a_refusing_status_is_a_rate_limit(fake, status):
    fake.status, fake.page = status, "<html>go away</html>"
    with pytest.raises(RateLimited):
        search(fake)


def test_a_challenge_page_with_status_200_is_a_rate_limit(fake):
    fake.page = CHALLENGE
    with pytest.raises(RateLimited):
        search(fake)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_any_other_status_is_unavailable(fake, status):
    fake.status = status
    with pytest.raises(Unavailable):
        search(fake)


def test_a_foreign_page_is_unavailable_and_not_nothing_found(fake):
    fake.page = "<html><body><h1>Welcome to the hotel's network</h1><div class='body'>Log in</div></body></html>"
    with pytest.raises(Unavailable):
        search(fake)


def test_a_slow_answer_is_a_timeout(fake):
    fake.delay = 1.0
    with pytest.raises(Timeout):
        search(fake, timeout=0.3)


def test_an_answer_that_breaks_off_is_a_failed_connection(fake):
    fake.truncate = True
    with pytest.raises(ConnectionFailed):
        search(fake)


def test_no_server_is_a_failed_connection():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectionFailed):
        asyncio.run(DuckDuckGo(f"http://127.0.0.1:{port}/", timeout=2.0).search("x", 3, "us-en", None))


def test_advertisements_are_left_out(fake):
    fake.page = page(
        ("Buy Paris", "https://duckduckgo.com/y.js?ad_domain=shop.example&ad_provider=x", "Cheap!"),
        ("Buy more", "//duckduckgo.com/y.js?ad_domain=shop.example", "Cheap!"),
        ("Paris", "https://a.example/", "The city."),
    )
    assert [hit.title for hit in search(fake)] == ["Paris"]


def test_redirect_links_lead_to_their_target(fake):
    target = "https://a.example/path?x=1&y=a%26b#part"
    fake.page = page(("Paris", f"//duckduckgo.com/l/?uddg={quote(target, safe='')}&rut=0123", "The city."))
    assert [hit.url for hit in search(fake)] == [target]


def test_links_that_are_no_web_address_are_left_out(fake):
    fake.page = page(("A", "javascript:alert(1)", "x"), ("B", "/relative", "x"), ("C", "data:text/html,hi", "x"))
    assert search(fake) == []


def test_unicode_arrives_whole(fake):
    fake.page = page(("東京 – Größe &amp; naïve", "https://日本.example/東京", "Café 👩‍👩‍👧 &lt;b&gt; “quoted”"))
    (hit,) = search(fake)
    assert hit.title == "東京 – Größe & naïve"
    assert hit.url == "https://日本.example/東京"
    assert hit.snippet.startswith("Café") and hit.snippet.endswith("“quoted”")


# Through the retriever: what the chat sees.


def retriever(fake: FakeDuckDuckGo, **limits: object):
    times = {"spacing": 0.0, "attempt": 1.0, "deadline": 2.0, **limits}
    built = build_retriever("duckduckgo", search_url=fake.url, limits=times)
    assert built is not None
    return built


async def ask(built, text: str = "What is the capital of France?", **more):
    options = {"budget_tokens": 300, "count_tokens": lambda text: len(text.split())}
    return await built.retrieve([Message("user", text)], **options, **more)


def test_the_chat_gets_numbered_sources(fake):
    found = asyncio.run(ask(retriever(fake)))
    assert found.provider == "duckduckgo"
    assert found.context.splitlines()[0] == (
        "[1] Paris - Encyclopedia (en.encyclopedia.example): Paris is the capital of France."
    )
    assert found.sources[0].id == 1 and found.sources[0].passage == "Paris is the capital of France."
    assert found.note is None


def test_small_talk_sends_nothing(fake):
    found = asyncio.run(ask(retriever(fake), "Hello, how are you?"))
    assert not found.searched and not fake.asked


def test_a_search_can_be_demanded(fake):
    found = asyncio.run(ask(retriever(fake), "Hello, how are you?", always=True))
    assert found.searched and len(fake.asked) == 1


def test_equal_questions_are_asked_once(fake):
    built = retriever(fake)
    asyncio.run(ask(built))
    asyncio.run(ask(built, "what is the capital of France"))
    assert len(fake.asked) == 1


def test_equal_questions_at_the_same_time_share_one_flight(fake):
    fake.delay = 0.2
    built = retriever(fake)

    async def together():
        return await asyncio.gather(*(ask(built) for _ in range(10)))

    assert all(found.sources for found in asyncio.run(together()))
    assert len(fake.asked) == 1


def test_one_caller_who_leaves_does_not_take_the_others_answer(fake):
    fake.delay = 0.3
    built = retriever(fake)

    async def leave_early():
        first = asyncio.create_task(ask(built))
        second = asyncio.create_task(ask(built))
        await asyncio.sleep(0.1)
        first.cancel()
        return await second

    assert asyncio.run(leave_early()).sources
    assert len(fake.asked) == 1


def test_calls_keep_their_distance(fake):
    built = retriever(fake, spacing=0.3)

    async def three():
        await asyncio.gather(*(ask(built, f"Where is {name}?") for name in ("Oslo", "Rome", "Lima")))

    asyncio.run(three())
    gaps = [later - earlier for earlier, later in zip(fake.times, fake.times[1:], strict=False)]
    assert len(gaps) == 2 and min(gaps) > 0.25


def test_a_refusal_closes_the_circuit_for_every_question(fake):
    fake.status = 429
    built = retriever(fake)
    first = asyncio.run(ask(built))
    second = asyncio.run(ask(built, "Where is Oslo?"))
    assert "refused" in (first.note or "") and "refused" in (second.note or "")
    assert first.sources == () and first.context == ""
    assert len(fake.asked) == 1  # neither retried nor asked again


def test_the_circuit_opens_again(fake):
    fake.status = 429
    built = retriever(fake, circuit=(0.1, 0.2))
    asyncio.run(ask(built))
    fake.status = 200
    time.sleep(0.25)
    assert asyncio.run(ask(built, "What is the capital city of France?")).sources


def test_a_timeout_is_retried_once_and_then_the_chat_goes_on(fake):
    fake.delay = 1.0
    built = retriever(fake, attempt=0.3, deadline=3.0)
    found = asyncio.run(ask(built))
    assert found.note == "The search took too long; this answer goes on without sources."
    assert len(fake.asked) == 2


def test_the_deadline_holds_whatever_the_provider_does(fake):
    fake.delay = 1.5
    built = retriever(fake, attempt=1.4, deadline=0.5)

    async def timed():
        started = time.perf_counter()
        found = await ask(built)
        return found, time.perf_counter() - started

    found, seconds = asyncio.run(timed())
    assert found.note == "The search took longer than 0.5 s; this answer goes on without sources."
    assert seconds < 1.2


def test_with_the_provider_down_the_chat_goes_on_and_says_so(fake):
    fake.server.shutdown()
    fake.server.server_close()
    found = asyncio.run(ask(retriever(fake)))
    assert found.sources == () and found.note == "The search cannot be reached; this answer goes on without sources."


def test_a_failure_is_remembered_and_not_asked_again_at_once(fake):
    fake.status = 500
    built = retriever(fake)
    asyncio.run(ask(built))
    asyncio.run(ask(built))
    assert len(fake.asked) == 1


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def timed(fake: FakeDuckDuckGo, clock: Clock) -> Retriever:
    """A retriever with the configuration's own times, on a clock of ours."""
    values = OmegaConf.to_container(compose("serve", ["search=duckduckgo"]).search, resolve=True)
    assert isinstance(values, dict)
    limits = Limits(**values["limits"] | {"spacing": 0.0, "circuit": (0.0, 0.0)})
    polite = Polite(DuckDuckGo(fake.url, timeout=2.0), Cache(None, clock=clock), limits)
    return Retriever(polite, pages=None, scope=Scope(), budget=Budget(), limits=limits)


def test_results_are_good_for_an_hour(fake):
    clock = Clock()
    built = timed(fake, clock)
    for seconds, asked in ((0.0, 1), (3599.0, 1), (3601.0, 2)):
        clock.now = 1_000_000.0 + seconds
        assert asyncio.run(ask(built)).sources
        assert len(fake.asked) == asked


def test_a_failure_is_remembered_for_a_minute(fake):
    clock, fake.status = Clock(), 500
    built = timed(fake, clock)
    for seconds, asked in ((0.0, 1), (59.0, 1), (61.0, 2)):
        clock.now = 1_000_000.0 + seconds
        assert asyncio.run(ask(built)).note == "The search cannot be reached; this answer goes on without sources."
        assert len(fake.asked) == asked


def test_results_of_last_week_are_not_stale_but_gone(fake):
    clock = Clock()
    built = timed(fake, clock)
    asyncio.run(ask(built))
    fake.status = 500
    clock.now += 6 * 86400
    assert asyncio.run(ask(built)).note == "The search cannot be reached; these sources are 6 days old."
    clock.now += 2 * 86400
    assert asyncio.run(ask(built)).sources == ()


def test_the_times_are_those_that_were_decided_on():
    times = compose("serve", ["search=duckduckgo"]).search.limits
    assert (times.deadline, times.attempts, times.spacing, list(times.circuit)) == (4.0, 2, 1.0, [60.0, 120.0])
    assert (times.results_ttl, times.pages_ttl, times.failures_ttl) == (3600.0, 86400.0, 60.0)


def test_a_broken_connection_is_retried_once_and_a_refusal_is_not(fake):
    fake.truncate = True
    asyncio.run(ask(retriever(fake, deadline=4.0)))
    assert len(fake.asked) == 2
    fake.truncate, fake.status = False, 429
    asyncio.run(ask(retriever(fake, deadline=4.0)))
    assert len(fake.asked) == 3


def test_stale_results_are_better_than_none(fake):
    built = retriever(fake, results_ttl=0.0)
    asyncio.run(ask(built))
    fake.status = 500
    found = asyncio.run(ask(built))
    assert found.sources and "these sources are" in (found.note or "")


def test_results_survive_a_restart(fake, tmp_path):
    file = str(tmp_path / "cache" / "search.sqlite")
    for _ in range(2):
        built = build_retriever("duckduckgo", search_url=fake.url, cache=file, limits={"spacing": 0.0})
        assert asyncio.run(ask(built)).sources
    assert len(fake.asked) == 1


def test_a_cache_that_cannot_be_used_costs_no_answer(fake, tmp_path, caplog):
    (tmp_path / "search.sqlite").write_bytes(b"no database at all " * 100)
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "search.sqlite", tmp_path / "file" / "search.sqlite"):
        built = build_retriever("duckduckgo", search_url=fake.url, cache=str(path), limits={"spacing": 0.0})
        assert asyncio.run(ask(built)).sources
    assert sum("cannot be used, so results are kept in memory" in message for message in caplog.messages) == 2


def test_nothing_found_is_said(fake):
    fake.page = EMPTY
    assert asyncio.run(ask(retriever(fake))).note == "The search found nothing."


def test_no_room_for_sources_is_said_and_nothing_is_sent(fake):
    built = retriever(fake)
    found = asyncio.run(built.retrieve([Message("user", "Who is Ada Lovelace?")], budget_tokens=5, count_tokens=len))
    assert found.note == "The conversation leaves no room for sources." and not fake.asked


class Timed(DuckDuckGo):
    """The provider, which notes how long it took by itself."""

    spent = 0.0

    async def search(self, query: str, k: int, region: str, time_limit: str | None):
        started = time.perf_counter()
        try:
            return await super().search(query, k, region, time_limit)
        finally:
            self.spent = time.perf_counter() - started


def test_the_latency_that_we_add_is_under_50_ms(fake, tmp_path):
    words = "The harbour of {0} was enlarged in 1902 for the herring fleet, and {0} has had a pilot since."
    fake.page = page(*((f"Harbour {i}", f"https://s{i}.example/", words.format(f"Town{i}") * 3) for i in range(8)))
    provider, limits = Timed(fake.url, timeout=2.0), Limits(spacing=0.0)
    polite = Polite(provider, Cache(tmp_path / "search.sqlite"), limits)
    built = Retriever(polite, pages=None, scope=Scope(), budget=Budget(), limits=limits)
    tokenizer = Tokenizer.gpt2()

    async def added(question: str) -> float:
        started = time.perf_counter()
        found = await built.retrieve(
            [Message("user", "Hello!"), Message("assistant", "Hi."), Message("user", question)],
            budget_tokens=380,
            count_tokens=lambda text: len(tokenizer.encode(text)),
        )
        assert found.sources
        return time.perf_counter() - started - provider.spent

    async def all_of_them() -> list[float]:
        await added("Where is the harbour of Oslo?")  # the first use loads what is loaded once
        return [await added(f"When was the harbour of Town{i % 8} in region {i} enlarged?") for i in range(60)]

    spent = sorted(1000 * seconds for seconds in asyncio.run(all_of_them()))
    median = statistics.median(spent)
    print(f"added to the provider's own time: median {median:.1f} ms, 95th percentile {spent[56]:.1f} ms, of 60 calls")
    assert len(fake.asked) == 61
    assert median < 50


# The whole way: a server that answers from the web, as its clients see it.


@pytest.fixture(scope="module")
def web() -> Iterator[FakeDuckDuckGo]:
    server = FakeDuckDuckGo()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture(scope="module")
def online(launch, web):
    """A server that searches there, and forgets failures and refusals at once."""
    limits = ["spacing=0", "circuit=[0,0]", "failures_ttl=0", "deadline=1.5", "attempt=1"]
    return launch(
        "checkpoint=tiny",
        "search=duckduckgo",
        f"search.search_url={web.url}",
        "search.pages=0",
        *(f"search.limits.{limit}" for limit in limits),
    )


def streamed(online, question: str) -> list[str]:
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 3}
    with online.client.stream("POST", "/v1/chat/stream", json=body) as response:
        assert response.status_code == 200
        return [line for line in response.iter_lines() if line and not line.startswith("id:")]


def test_a_stream_names_what_the_web_holds_before_its_first_token(online, web):
    web.status, web.page, web.delay = 200, PARIS, 0.0
    lines = streamed(online, "What is the capital of France?")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    place = lines.index("event: sources")
    assert not any('"content"' in line for line in lines[:place])
    assert sum("choices" in event and bool(event["choices"]) for event in events) >= 3
    found = json.loads(lines[place + 1].removeprefix("data: "))
    assert (found["provider"], found["query"], found["note"]) == ("duckduckgo", "capital of France", None)
    first = found["sources"][0]
    assert {name: first[name] for name in ("id", "title", "url", "site", "passage")} == {
        "id": 1,
        "title": "Paris - Encyclopedia",
        "url": "https://en.encyclopedia.example/Paris",
        "site": "en.encyclopedia.example",
        "passage": "Paris is the capital of France.",
    }
    assert first["score"] > 0
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize(
    ("status", "answered", "delay", "note"),
    [
        (500, PARIS, 0.0, "The search cannot be reached; this answer goes on without sources."),
        (429, PARIS, 0.0, "The search was refused by the provider for now; this answer goes on without sources."),
        (200, CHALLENGE, 0.0, "The search was refused by the provider for now; this answer goes on without sources."),
        (200, PARIS, 3.0, "The search took longer than 1.5 s; this answer goes on without sources."),
        (200, EMPTY, 0.0, "The search found nothing."),
    ],
)
def test_whatever_the_provider_does_the_server_answers_and_says_so(online, web, status, answered, delay, note):
    web.status, web.page, web.delay = status, answered, delay
    lines = streamed(online, f"Who is the mayor of Paris in {status} {delay} {len(answered)}?")
    found = json.loads(lines[lines.index("event: sources") + 1].removeprefix("data: "))
    assert (found["sources"], found["note"]) == ([], note)
    assert any('"content"' in line for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_the_terminal_answers_from_the_web_too(runs, fake, capsys):
    settings = ["search=duckduckgo", f"search.search_url={fake.url}", "search.cache=null", "search.pages=0"]
    chat([f"checkpoint={runs / 'tiny'}", "max_new_tokens=3", "prompt=What is the capital of France?", *settings])
    printed = capsys.readouterr()
    assert printed.out.strip()
    assert printed.err.splitlines()[:2] == [
        "Found in duckduckgo for 'capital of France':",
        "[1] Paris - Encyclopedia · https://en.encyclopedia.example/Paris",
    ]


# The older package, through a CONNECT proxy.


def search_older(fake: FakeDuckDuckGo, tunnel: TunnelToFake, timeout: float = 5.0, verify: bool = False):
    provider = DuckDuckGoSearch(timeout=timeout, proxy=tunnel.url, verify=verify)
    return asyncio.run(provider.search("capital of France", 8, "us-en", None))


@pytest.fixture
def tunnel(fake) -> Iterator[TunnelToFake]:
    proxy = TunnelToFake(fake)
    yield proxy
    proxy.listener.close()


def test_the_older_package_finds_the_same(fake, tunnel):
    hits = search_older(fake, tunnel)
    assert [(h.title, h.snippet) for h in hits] == [
        ("Paris - Encyclopedia", "Paris is the capital of France."),
        ("Visit Paris", "Hotels and museums in Paris."),
    ]
    assert tunnel.hosts == ["html.duckduckgo.com:443"]
    assert fake.asked[0]["q"] == ["capital of France"] and fake.asked[0]["kl"] == ["us-en"]


def test_the_older_package_leaves_out_advertisements_and_unwraps_redirects(fake, tunnel):
    fake.page = page(
        ("Buy Paris", "https://duckduckgo.com/y.js?ad_domain=shop.example", "Cheap!"),
        ("Paris", f"//duckduckgo.com/l/?uddg={quote('https://a.example/x', safe='')}&rut=0", "The city."),
    )
    assert [hit.url for hit in search_older(fake, tunnel)] == ["https://a.example/x"]


def test_the_older_package_finding_nothing_is_an_empty_list(fake, tunnel):
    fake.page = EMPTY
    assert search_older(fake, tunnel) == []


@pytest.mark.parametrize("status", [202, 403, 418, 429])
def test_the_older_package_refused_is_a_rate_limit(fake, tunnel, status):
    fake.status = status
    with pytest.raises(RateLimited):
        search_older(fake, tunnel)


def test_the_older_package_challenged_is_a_rate_limit(fake, tunnel):
    fake.page = CHALLENGE
    with pytest.raises(RateLimited):
        search_older(fake, tunnel)


def test_the_older_package_too_slow_is_a_timeout(fake, tunnel):
    fake.delay = 1.0
    with pytest.raises(Timeout):
        search_older(fake, tunnel, timeout=0.3)


def test_the_older_package_answered_halfway_is_a_failed_connection(fake, tunnel):
    fake.truncate = True
    with pytest.raises(ConnectionFailed):
        search_older(fake, tunnel)


def test_the_older_package_brings_unicode_whole(fake, tunnel):
    fake.page = page(("東京 – Größe &amp; naïve", "https://日本.example/東京", "Café 👩‍👩‍👧 “quoted”"))
    (hit,) = search_older(fake, tunnel)
    assert (hit.title, hit.url) == ("東京 – Größe & naïve", "https://日本.example/東京")
    assert hit.snippet.startswith("Café") and hit.snippet.endswith("“quoted”")


def test_the_older_package_does_not_trust_a_strange_certificate(fake, tunnel):
    with pytest.raises(ConnectionFailed):
        search_older(fake, tunnel, verify=True)
