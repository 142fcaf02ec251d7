"""Builds a retriever from the plain values of a `search` configuration.

Imports each part on first use, so that programs without search do not load its libraries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from resonance.retrieval.types import Budget, Limits, Provider, SearchError

if TYPE_CHECKING:
    from resonance.retrieval.retriever import Retriever

_T = TypeVar("_T", Budget, Limits)
# Minima of budgets and limits; smaller values could never find anything.
_MINIMUM = {
    "max_tokens": 1,
    "history_tokens": 0,
    "max_sources": 1,
    "per_site": 1,
    "sentences_per_source": 1,
    "deadline": 0.2,
    "attempt": 0.01,
    "attempts": 1,
}
BESIDE = "documents+"  # before the name of a web provider: documents are searched beside the web
PROVIDERS = (
    "off",
    "duckduckgo",
    "duckduckgo-search",
    "documents",
    f"{BESIDE}duckduckgo",
    f"{BESIDE}duckduckgo-search",
)


def build_retriever(
    provider: str,
    *,
    when: Literal["auto", "always"] = "auto",
    max_results: int = 8,
    region: str = "us-en",
    time_limit: str | None = None,
    search_url: str = "https://html.duckduckgo.com/html/",
    proxy: str | None = None,
    verify: bool = True,
    path: str | None = None,
    index: str | None = None,
    refresh_s: float = 30.0,
    cache: str | None = None,
    pages: int = 0,
    allow_networks: Sequence[str] = (),
    budget: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    retention_days: int | None = None,
) -> "Retriever | None":
    """Build the retriever that a `search` configuration describes; None for `off`.

    Args:
        provider: off, duckduckgo, duckduckgo-search, documents, or documents+ before a web provider: both together.
        when: auto searches when a message calls for it, always searches for every message.
        max_results: hits requested from the provider.
        region: DuckDuckGo's region, such as us-en or de-de.
        time_limit: only results of the last day, week, month or year (d, w, m, y), or None for all.
        search_url: the address of DuckDuckGo's HTML page.
        proxy: an http proxy for the provider and its pages, without pages a socks5 proxy as well, or None.
        verify: check the provider's certificate (duckduckgo-search).
        path: the folder of documents, or one file.
        index: the folder of the documents' index.
        refresh_s: minimum seconds between two scans of the documents for changes.
        cache: the cache file of results and pages; None caches in memory.
        pages: how many of the best hits' pages are fetched; 0 uses snippets alone.
        allow_networks: private networks that pages may be fetched from, such as 10.1.0.0/16.
        budget: fields of `resonance.retrieval.types.Budget`.
        limits: fields of `resonance.retrieval.types.Limits`.
        retention_days: maximum age of cached results; None keeps them as long as `limits` uses them.

    Raises SearchError for an invalid value.
    """
    if provider not in PROVIDERS:
        raise SearchError(f"search provider {provider!r} is not known; choose one of {', '.join(PROVIDERS)}")
    if provider == "off":
        return None
    if when not in ("auto", "always"):
        raise SearchError(f"search.when is {when!r}; it must be auto or always")
    if time_limit not in (None, "d", "w", "m", "y"):
        raise SearchError(f"search.time_limit is {time_limit!r}; it must be d, w, m, y or null")
    if max_results < 1:
        raise SearchError(f"search.max_results is {max_results}; it must be at least 1")
    from resonance.retrieval.retriever import Retriever, SearchOptions
    from resonance.retrieval.throttling import DirectProvider, ThrottledProvider

    kept = _values(Budget, budget, "budget")
    times = _values(Limits, limits, "limits")
    options = SearchOptions(max_results, region, time_limit, when, eager=provider == "documents", pages=pages)
    documents = None
    if provider == "documents" or provider.startswith(BESIDE):
        if not path or not index:
            group = "documents" if provider == "documents" else "both"
            raise SearchError(f"search={group} needs search.path=PATH, the folder of documents, and search.index")
        from resonance.retrieval.documents.provider import Documents
        from resonance.retrieval.index import Index

        found = Documents(Index(Path(path).expanduser(), Path(index).expanduser()), refresh_s=refresh_s)
        documents = DirectProvider(found)
        if provider == "documents":
            return Retriever(documents, pages=None, options=options, budget=kept, limits=times)
    from resonance.retrieval.cache import Cache
    from resonance.retrieval.fetch import Pages
    from resonance.retrieval.ssrf import AddressPolicy, proxy_url

    useful = max(times.results_ttl, times.pages_ttl, times.failures_ttl, times.stale_ttl)
    keep = useful if retention_days is None else min(useful, retention_days * 86400.0)
    store = Cache(Path(cache).expanduser() if cache else None, keep=keep)
    policy = AddressPolicy.of(allow_networks)
    reader = None
    if pages > 0:
        through = proxy_url(proxy) if proxy else None
        reader = Pages(policy, store, ttl=times.pages_ttl, failures_ttl=times.failures_ttl, proxy=through)
    throttled = ThrottledProvider(_web(provider.removeprefix(BESIDE), search_url, proxy, verify, times), store, times)
    return Retriever(throttled, pages=reader, options=options, budget=kept, limits=times, documents=documents)


def _web(provider: str, search_url: str, proxy: str | None, verify: bool, limits: Limits) -> Provider:
    if provider == "duckduckgo":
        from resonance.retrieval.duckduckgo import DuckDuckGo

        return DuckDuckGo(search_url, timeout=limits.attempt, proxy=proxy)
    try:
        from resonance.retrieval.duckduckgo_search_adapter import DuckDuckGoSearch
    except ImportError as error:
        raise SearchError(
            "provider duckduckgo-search needs the package of that name: pip install 'resonance[duckduckgo-search]'"
        ) from error
    return DuckDuckGoSearch(timeout=limits.attempt, proxy=proxy, verify=verify)


def _values(kind: type[_T], given: Mapping[str, Any] | None, name: str) -> _T:
    known = [field.name for field in fields(kind)]
    values = dict(given or {})
    for key in values:
        if key not in known:
            raise SearchError(f"search.{name}.{key} is not known; there are {', '.join(known)}")
    if isinstance(values.get("circuit"), Sequence):
        low, high = cast(Sequence[float], values["circuit"])
        values["circuit"] = (low, high)
    for key, least in _MINIMUM.items():
        if key in values and values[key] < least:
            raise SearchError(f"search.{name}.{key} is {values[key]}; it must be at least {least:g}")
    return kind(**values)
