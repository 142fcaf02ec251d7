"""The provider for a folder of one's own documents: no network, and a folder that may change under it."""

import asyncio
import logging
import threading
import time

from resonance.retrieval.index import Index
from resonance.retrieval.types import Hit, SearchError

_log = logging.getLogger("resonance.search")

# Seconds that a search waits for changes to be read; where that takes longer it asks what has been read before.
PATIENCE = 0.5


class Documents:
    """Searches an index that follows its folder; see `resonance.retrieval.types.Provider`.

    Args:
        index: brought up to date at once.
        refresh_s: seconds after which a search first looks over the folder for changes.
    """

    name = "documents"

    def __init__(self, index: Index, *, refresh_s: float) -> None:
        self._index = index
        self._refresh_s = refresh_s
        self._lock = threading.Lock()
        self._told: frozenset[str] = frozenset()
        self._looked = time.monotonic()
        self._tell(index.update().warnings(index.documents))

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` passages; `region` and `time_limit` do not apply to documents."""
        return await asyncio.to_thread(self._search, query, k)

    def _search(self, query: str, k: int) -> list[Hit]:
        if time.monotonic() - self._looked > self._refresh_s and self._lock.acquire(blocking=False):
            update = threading.Thread(target=self._update, name="documents", daemon=True)
            update.start()
            update.join(PATIENCE)
        found = self._index.search(query, k)
        return [Hit(passage.title, passage.path, passage.text, rank, self.name) for rank, passage in enumerate(found)]

    def _update(self) -> None:
        """Bring the index up to date, the lock being held; where that fails the documents stay as they were read."""
        try:
            self._tell(self._index.update().warnings(self._index.documents))
        except SearchError as error:
            self._tell((f"Changes of the documents are not seen: {error}.",))
        finally:
            self._looked = time.monotonic()
            self._lock.release()

    def _tell(self, warnings: tuple[str, ...]) -> None:
        """Log what has not been told the last time."""
        for sentence in warnings:
            if sentence not in self._told:
                _log.warning(sentence)
        self._told = frozenset(warnings)
