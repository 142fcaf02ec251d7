"""From plain values, as a configuration holds them, to a retriever.

Each part is imported when it is asked for: who searches nothing waits for no library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from resonance.retrieval.types import Budget, Limits, Provider, SearchError

if TYPE_CHECKING:
    from resonance.retrieval.retriever import Retriever

_T = TypeVar("_T", Budget, Limits)
# Numbers of a budget and of limits below which nothing could be found.
_LEAST = {
    "max_tokens": 1,
    "history_tokens": 0,
    "max_sources": 1,
    "per_site": 1,
    "sentences_per_source": 1,
    "deadline": 0.2,
    "attempt": 0.01,
    "attempts": 1,
}
PROVIDERS = ("off", "duckduckgo", "duckduckgo-search", "documents")


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
    """The retriever that the values of a `search` configuration describe; None for `off`.

    Args:
        provider: off, duckduckgo, duckduckgo-search or documents.
        when: auto searches when the message asks for it, always searches for every message.
        max_results: how many hits are asked for.
        region: DuckDuckGo's region, such as us-en or de-de.
        time_limit: only results of the last day, week, month or year (d, w, m, y), or None.
        search_url: the address of DuckDuckGo's HTML page.
        proxy: an http proxy for the provider and its pages, without pages a socks5 proxy as well, or None.
        verify: check the provider's certificate (duckduckgo-search).
        path: the folder (or file) of documents.
        index: the folder that the documents' index is kept in.
        refresh_s: how often, at most, the documents are looked over for changes, in seconds.
        cache: the file for results and pages; None keeps them in memory.
        pages: how many of the best hits' pages are fetched and read; 0 is snippets alone.
        allow_networks: networks that pages may come from although they are not public, as 10.1.0.0/16.
        budget: fields of `resonance.retrieval.types.Budget`.
        limits: fields of `resonance.retrieval.types.Limits`.
        retention_days: what was found is kept at most so long; None: as long as `limits` has a use for it.

    Raises SearchError for a value that cannot work.
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
    from resonance.retrieval.retriever import Retriever, Scope
    from resonance.retrieval.throttling import Direct, Polite

    kept = _values(Budget, budget, "budget")
    times = _values(Limits, limits, "limits")
    scope = Scope(max_results, region, time_limit, when, eager=provider == "documents", pages=pages)
    if provider == "documents":
        if not path or not index:
            raise SearchError("search=documents needs search.path=PATH, the folder of documents, and search.index")
        from resonance.retrieval.documents.provider import Documents
        from resonance.retrieval.index import Index

        documents = Documents(Index(Path(path).expanduser(), Path(index).expanduser()), refresh_s=refresh_s)
        return Retriever(Direct(documents), pages=None, scope=scope, budget=kept, limits=times)
    from resonance.retrieval.cache import Cache
    from resonance.retrieval.fetch import Pages
    from resonance.retrieval.proxy_tunnel import proxy_url
    from resonance.retrieval.ssrf import AddressPolicy

    useful = max(times.results_ttl, times.pages_ttl, times.failures_ttl, times.stale_ttl)
    keep = useful if retention_days is None else min(useful, retention_days * 86400.0)
    store = Cache(Path(cache).expanduser() if cache else None, keep=keep)
    policy = AddressPolicy.of(allow_networks)
    reader = None
    if pages > 0:
        through = proxy_url(proxy) if proxy else None
        reader = Pages(policy, store, ttl=times.pages_ttl, failures_ttl=times.failures_ttl, proxy=through)
    polite = Polite(_web(provider, search_url, proxy, verify, times), store, times)
    return Retriever(polite, pages=reader, scope=scope, budget=kept, limits=times)


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
    for key, least in _LEAST.items():
        if key in values and values[key] < least:
            raise SearchError(f"search.{name}.{key} is {values[key]}; it must be at least {least:g}")
    return kind(**values)
