"""What a reader searches for is in no log and no file, and what was found goes when conversations do."""

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest

from resonance.chat_template import Message
from resonance.retrieval import build_retriever
from resonance.retrieval.cache import Cache
from resonance.retrieval.fetch import Pages
from resonance.retrieval.retriever import Retriever, SearchOptions
from resonance.retrieval.ssrf import AddressPolicy, proxy_url
from resonance.retrieval.throttling import DirectProvider, ThrottledProvider
from resonance.retrieval.types import Budget, ConnectionFailed, Hit, Limits, SearchError

SECRET = "my very private question"
HITS = [Hit("A title", "https://a.example/", "A snippet", 0, "web")]
DAY = 86400.0


class Web:
    """A provider whose answer is given; an exception is raised."""

    name = "web"

    def __init__(self, answer: list[Hit] | Exception) -> None:
        self.answer = answer

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_failed_search_logs_where_it_failed_and_none_of_the_readers_words(caplog):
    retriever = Retriever(
        DirectProvider(Web(ValueError(f"cannot parse {SECRET}"))),
        pages=None,
        options=SearchOptions(),
        budget=Budget(),
        limits=Limits(),
    )
    with caplog.at_level(logging.DEBUG):
        found = asyncio.run(
            retriever.retrieve([Message("user", SECRET)], budget_tokens=300, count_tokens=len, query=SECRET)
        )
    assert found.note
    assert "ValueError at test_search_privacy.py" in caplog.text
    assert "private" not in caplog.text


@pytest.mark.parametrize("answer", [HITS, ConnectionFailed(f"no connection to /?q={SECRET}")])
def test_a_query_stands_in_no_file_in_plain_text(tmp_path, answer):
    cache = Cache(tmp_path / "search.sqlite")
    polite = ThrottledProvider(Web(answer), cache, Limits(attempts=1, spacing=0.0))
    for _ in range(2):
        outcome = asyncio.run(asyncio.wait_for(_find(polite), 10))
        assert outcome == (HITS if answer == HITS else "ConnectionFailed")
    assert b"private" not in everything(tmp_path)
    cache.close()
    assert b"private" not in everything(tmp_path)


async def _find(polite: ThrottledProvider) -> list[Hit] | str:
    try:
        return (await polite.find(SECRET, 3, "us-en", None)).hits
    except ConnectionFailed as error:
        return type(error).__name__


def test_queries_of_an_older_version_are_gone_from_the_file_once_it_is_opened(tmp_path):
    file = tmp_path / "search.sqlite"
    with sqlite3.connect(file) as old:
        old.execute("CREATE TABLE cache (kind TEXT, key TEXT, value TEXT, stored_at REAL, PRIMARY KEY (kind, key))")
        old.execute("INSERT INTO cache VALUES ('results', ?, '[]', 1e12)", (SECRET,))
    old.close()
    assert b"private" in everything(tmp_path)
    Cache(file).close()
    assert b"private" not in everything(tmp_path)


def test_what_was_found_is_deleted_after_the_days_that_conversations_are_kept_also_at_a_start(tmp_path):
    now = 100 * DAY
    file = tmp_path / "search.sqlite"
    cache = Cache(file, keep=DAY, clock=lambda: now)
    cache.put("pages", "old", "an old page of words")
    now += 0.5 * DAY
    cache.put("pages", "new", "a newer page")
    now += 0.6 * DAY
    assert cache.get("pages", "old", max_age=10 * DAY) is None
    cache.prune()
    assert b"an old page" not in everything(tmp_path)
    assert cache.get("pages", "new", max_age=10 * DAY) is not None
    cache.close()
    now += DAY
    Cache(file, keep=DAY, clock=lambda: now).close()
    assert b"a newer page" not in everything(tmp_path)


def test_the_servers_retention_holds_for_its_searches(tmp_path):
    file = tmp_path / "search.sqlite"
    cache = Cache(file, clock=lambda: 1000.0)  # long ago
    cache.put("pages", "old", "an old page of words")
    cache.close()
    built = build_retriever("duckduckgo", cache=str(file), retention_days=1)
    assert built is not None
    built.forget()
    assert b"an old page" not in everything(tmp_path)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_pages_are_fetched_through_the_proxy_which_gets_checked_addresses_alone(name):
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nwords")
        await writer.drain()
        writer.close()

    async def read(allowed: list[str]) -> dict[str, str]:
        proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
        through = proxy_url(f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        pages = Pages(AddressPolicy.of(allowed), Cache(None), ttl=9.0, failures_ttl=9.0, proxy=through)
        async with proxy:
            return await pages.read([f"http://{name}:8/page"], deadline=20.0)

    assert asyncio.run(read([])) == {}
    assert asked == []  # what may not be connected to is not asked of a proxy either
    found = asyncio.run(read(["127.0.0.0/8", "::1/128"]))
    assert list(found.values()) == ["words"]
    assert asked[0] in (b"CONNECT 127.0.0.1:8 HTTP/1.1", b"CONNECT [::1]:8 HTTP/1.1")
    assert asked[1] == b"GET /page HTTP/1.1"


def test_a_proxy_that_pages_cannot_be_fetched_through_is_refused_by_name():
    with pytest.raises(SearchError, match=r"search\.pages=0"):
        build_retriever("duckduckgo", proxy="socks5://127.0.0.1:1080", pages=1)
    assert build_retriever("duckduckgo", proxy="socks5://127.0.0.1:1080", pages=0) is not None
