"""The DuckDuckGo provider, on ddgs.

ddgs parses any page as results, so a refusal looks like "nothing found"; this module checks the page first.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from ddgs.engines.duckduckgo import Duckduckgo
from ddgs.exceptions import DDGSException, TimeoutException
from ddgs.results import TextResult

from resonance.retrieval.types import ConnectionFailed, Hit, RateLimited, Timeout, Unavailable

REFUSALS = frozenset((202, 403, 418, 429))
# The CAPTCHA page; its form posts to anomaly.js.
_CHALLENGE = re.compile(
    r"(?:class|id)=[\"'][^\"']*(?:anomaly-modal|challenge-form)|(?:action|src)=[\"'][^\"']*anomaly\.js", re.I
)
# Markup of every result page, including empty ones.
_RESULTS_PAGE = re.compile(
    r"id=[\"']links[\"']|class=[\"'][^\"']*\b(?:results|no-results|serp__results)\b|No\s+results", re.I
)


class _RawResult(TextResult):
    """ddgs's result with the unmodified link: decoding it would break redirect links."""

    _normalizers: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        key: value for key, value in TextResult._normalizers.items() if key != "href"
    }


class _Engine(Duckduckgo):
    """ddgs's DuckDuckGo engine; its request() raises for a refusal or a page that is not a result page."""

    @property
    def result_type(self) -> type[TextResult]:
        return _RawResult

    def __init__(self, search_url: str, timeout: float, proxy: str | None) -> None:
        super().__init__(proxy=proxy, timeout=timeout)  # pyright: ignore[reportArgumentType]  # primp takes floats
        self.search_url = search_url

    def request(self, *args: Any, **kwargs: Any) -> str:
        response = self.http_client.request(*args, **kwargs)
        return checked(response.status_code, response.text)

    def post_extract_results(self, results: list[TextResult]) -> list[TextResult]:
        kept: list[TextResult] = []
        for result in results:
            target = target_of(result.href)
            if target is not None:
                result.href = target
                kept.append(result)
        return kept


class DuckDuckGo:
    """The provider; implements `resonance.retrieval.types.Provider`.

    Args:
        search_url: the address of the HTML search page.
        timeout: seconds for one request.
        proxy: an http or socks5 proxy for the requests, or None.
    """

    name = "duckduckgo"

    def __init__(self, search_url: str, *, timeout: float, proxy: str | None = None) -> None:
        self._search_url = search_url
        self._timeout = timeout
        self._proxy = proxy

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` hits on DuckDuckGo."""
        return await asyncio.to_thread(self._search, query, k, region, time_limit)

    def _search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        # One engine per call, as in ddgs: its client imitates a random browser.
        engine = _Engine(self._search_url, self._timeout, self._proxy)
        try:
            results = engine.search(query, region=region, timelimit=time_limit) or []
        except TimeoutException as error:
            raise Timeout(f"DuckDuckGo did not answer within {self._timeout:g} s") from error
        except DDGSException as error:
            raise ConnectionFailed(f"no connection to {urlsplit(self._search_url).netloc} ({error})") from error
        return hits_from(((r.title, r.href, r.body) for r in results), k, self.name)


def checked(status: int, page: str) -> str:
    """Return the page if it is a result page.

    Raises RateLimited for a refusal or a challenge, Unavailable for any other page.
    """
    if status in REFUSALS:
        raise RateLimited(f"DuckDuckGo refuses for now (HTTP {status})")
    if status != 200:
        raise Unavailable(f"DuckDuckGo answered with HTTP {status}")
    if _CHALLENGE.search(page):
        raise RateLimited("DuckDuckGo asks for proof that a human is searching")
    if not _RESULTS_PAGE.search(page):
        raise Unavailable("DuckDuckGo answered with a page that holds no results list")
    return page


def target_of(link: str) -> str | None:
    """The target URL of a result's link, redirects unwrapped; None for an advertisement or another scheme."""
    if link.startswith("//"):
        link = f"https:{link}"
    try:
        split = urlsplit(link)
    except ValueError:  # "http://[x", or a host that normalisation would change
        return None
    host = split.hostname or ""
    if host == "duckduckgo.com" or host.endswith(".duckduckgo.com"):
        if split.path.startswith("/y.js"):
            return None
        if split.path.startswith("/l/"):
            targets = parse_qs(split.query).get("uddg", [])
            return target_of(targets[0]) if targets else None
    return link if split.scheme in ("http", "https") and host else None


def hits_from(results: Iterable[tuple[str, str, str]], k: int, provider: str) -> list[Hit]:
    """The first `k` distinct results as hits; results without a title or URL are left out."""
    hits: list[Hit] = []
    seen: set[str] = set()
    for title, url, snippet in results:
        if title and url and url not in seen and len(hits) < k:
            seen.add(url)
            hits.append(Hit(title, url, snippet, len(hits), provider))
    return hits
