"""The provider for a folder of one's own documents: no network, and a folder that may change under it."""

import asyncio
import logging
import threading
import time

from serve.rag.contract import Hit
from serve.rag.index import Index

_log = logging.getLogger("resonance.search")


class Documents:
    """Searches an index that follows its folder; see `serve.rag.contract.Provider`.

    Args:
        index: brought up to date at once.
        refresh_s: seconds after which a search first looks over the folder for changes, in the background.
    """

    name = "documents"

    def __init__(self, index: Index, *, refresh_s: float) -> None:
        self._index = index
        self._refresh_s = refresh_s
        self._lock = threading.Lock()
        self._told: frozenset[str] = frozenset()
        self._update()

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` passages; `region` and `time_limit` do not apply to documents."""
        return await asyncio.to_thread(self._search, query, k)

    def _search(self, query: str, k: int) -> list[Hit]:
        if time.monotonic() - self._looked > self._refresh_s and self._lock.acquire(blocking=False):
            try:
                self._update()
            finally:
                self._lock.release()
        found = self._index.search(query, k)
        return [Hit(passage.title, passage.path, passage.text, rank, self.name) for rank, passage in enumerate(found)]

    def _update(self) -> None:
        """Bring the index up to date; what of the documents cannot be read is logged once."""
        warnings = self._index.update().warnings(self._index.documents)
        for sentence in warnings:
            if sentence not in self._told:
                _log.warning(sentence)
        self._told = frozenset(warnings)
        self._looked = time.monotonic()
