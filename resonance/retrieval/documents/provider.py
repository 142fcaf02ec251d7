"""The provider for a local folder of documents, which may change at any time."""

import asyncio
import logging
import threading
import time

from resonance.retrieval.index import Index
from resonance.retrieval.types import Hit, SearchError

_log = logging.getLogger("resonance.search")

UPDATE_TIMEOUT = 0.5  # seconds that a search waits for an update; then it uses the index as it is


class Documents:
    """Searches an index that is kept up to date with its folder; implements `resonance.retrieval.types.Provider`.

    Args:
        index: the index; updated immediately.
        refresh_s: minimum seconds between two updates.
    """

    name = "documents"

    def __init__(self, index: Index, *, refresh_s: float) -> None:
        self._index = index
        self._refresh_s = refresh_s
        self._lock = threading.Lock()
        self._logged: frozenset[str] = frozenset()
        self._updated_at = time.monotonic()
        self._log_new(index.update().warnings(index.documents))

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` passages; `region` and `time_limit` do not apply to documents."""
        return await asyncio.to_thread(self._search, query, k)

    def _search(self, query: str, k: int) -> list[Hit]:
        if time.monotonic() - self._updated_at > self._refresh_s and self._lock.acquire(blocking=False):
            update = threading.Thread(target=self._update, name="documents", daemon=True)
            update.start()
            update.join(UPDATE_TIMEOUT)
        found = self._index.search(query, k)
        return [Hit(passage.title, passage.path, passage.text, rank, self.name) for rank, passage in enumerate(found)]

    def _update(self) -> None:
        """Update the index. The caller holds the lock. If the update fails, the index stays as it is."""
        try:
            self._log_new(self._index.update().warnings(self._index.documents))
        except SearchError as error:
            self._log_new((f"Changes of the documents are not seen: {error}.",))
        finally:
            self._updated_at = time.monotonic()
            self._lock.release()

    def _log_new(self, warnings: tuple[str, ...]) -> None:
        """Log the warnings that were not logged the last time."""
        for sentence in warnings:
            if sentence not in self._logged:
                _log.warning(sentence)
        self._logged = frozenset(warnings)
