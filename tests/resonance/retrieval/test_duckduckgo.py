"""The real ddgs client against a server that plays DuckDuckGo."""

import asyncio
import socket
from urllib.parse import quote

import pytest

from resonance.retrieval import RateLimited, Timeout, Unavailable
from resonance.retrieval.duckduckgo import DuckDuckGo
from resonance.retrieval.types import ConnectionFailed


def search(fake, query: str = "capital of France", timeout: float = 5.0, k: int = 8):
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


@pytest.mark.parametrize("link", ["http://[broken/", "https://a\u2100b.example/", "//[::/x"])
def test_a_link_that_is_none_costs_only_its_result(fake, link):
    fake.shows(("Broken", link, "text"), ("Whole", "https://whole.example/", "text"))
    assert [hit.url for hit in search(fake)] == ["https://whole.example/"]


def test_at_most_k_hits_come_back(fake):
    fake.shows(*((f"T{i}", f"https://s{i}.example/", "text") for i in range(20)))
    assert len(search(fake, k=3)) == 3


def test_nothing_found_is_an_empty_list(fake):
    fake.page = fake.PAGES["empty"]
    assert search(fake) == []


@pytest.mark.parametrize("status", [202, 403, 418, 429])
def test_a_refusing_status_is_a_rate_limit(fake, status):
    fake.status, fake.page = status, "<html>go away</html>"
    with pytest.raises(RateLimited):
        search(fake)


def test_a_challenge_page_with_status_200_is_a_rate_limit(fake):
    fake.page = fake.PAGES["challenge"]
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
    fake.shows(
        ("Buy Paris", "https://duckduckgo.com/y.js?ad_domain=shop.example&ad_provider=x", "Cheap!"),
        ("Buy more", "//duckduckgo.com/y.js?ad_domain=shop.example", "Cheap!"),
        ("Paris", "https://a.example/", "The city."),
    )
    assert [hit.title for hit in search(fake)] == ["Paris"]


def test_redirect_links_lead_to_their_target(fake):
    target = "https://a.example/path?x=1&y=a%26b#part"
    fake.shows(("Paris", f"//duckduckgo.com/l/?uddg={quote(target, safe='')}&rut=0123", "The city."))
    assert [hit.url for hit in search(fake)] == [target]


def test_links_that_are_no_web_address_are_left_out(fake):
    fake.shows(("A", "javascript:alert(1)", "x"), ("B", "/relative", "x"), ("C", "data:text/html,hi", "x"))
    assert search(fake) == []


def test_unicode_arrives_whole(fake):
    fake.shows(("東京 – Größe &amp; naïve", "https://日本.example/東京", "Café 👩‍👩‍👧 &lt;b&gt; “quoted”"))
    (hit,) = search(fake)
    assert hit.title == "東京 – Größe & naïve"
    assert hit.url == "https://日本.example/東京"
    assert hit.snippet.startswith("Café") and hit.snippet.endswith("“quoted”")
