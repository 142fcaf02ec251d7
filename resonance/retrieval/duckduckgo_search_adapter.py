"""The DuckDuckGo provider on `duckduckgo-search` 8.1.1, the predecessor of ddgs; an optional extra.

Its public `text()` queries Bing whatever the backend, so this calls the method of its `html` backend; the version is
pinned for that reason.
"""

import asyncio
import threading
import warnings
from typing import Any

from duckduckgo_search import DDGS
from duckduckgo_search.exceptions import RatelimitException, TimeoutException

from resonance.retrieval.duckduckgo import checked, hits_from, target_of
from resonance.retrieval.types import ConnectionFailed, Hit, ProviderError, RateLimited, Timeout

_MAKING = threading.Lock()


class _Client(DDGS):
    """The package's client, with responses checked before they are parsed."""

    def _get_url(self, *args: Any, **kwargs: Any) -> Any:
        response = super()._get_url(*args, **kwargs)
        checked(response.status_code, response.text)
        return response

    def results(self, query: str, region: str, time_limit: str | None, k: int) -> list[dict[str, str]]:
        return self._text_html(query, region, time_limit, k)


class DuckDuckGoSearch:
    """The provider; implements `resonance.retrieval.types.Provider`.

    Args:
        timeout: seconds for one request.
        proxy: an http or socks5 proxy, or None.
        verify: check the server's certificate.
    """

    name = "duckduckgo-search"

    def __init__(self, *, timeout: float, proxy: str | None = None, verify: bool = True) -> None:
        self._timeout = timeout
        self._proxy = proxy
        self._verify = verify

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` hits on DuckDuckGo."""
        return await asyncio.to_thread(self._search, query, k, region, time_limit)

    def _search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        # The constructor warns of the package's new name and changes the process's warning filters.
        with _MAKING, warnings.catch_warnings(record=True):
            timeout: Any = self._timeout  # annotated as int, but accepts any number
            client = _Client(proxy=self._proxy, timeout=timeout, verify=self._verify)
        try:
            results = client.results(query, region, time_limit, k)
        except RatelimitException as error:
            raise RateLimited("DuckDuckGo refuses for now") from error
        except TimeoutException as error:
            raise Timeout(f"DuckDuckGo did not answer within {self._timeout:g} s") from error
        except ProviderError:
            raise
        except Exception as error:  # errors while a response is read come from the package's HTTP client
            raise ConnectionFailed(f"no connection to DuckDuckGo ({error})") from error
        found = ((r["title"], target_of(r["href"]) or "", r["body"]) for r in results)
        return hits_from(found, k, self.name)
