"""Retrieval for a program without an event loop: what `resonance chat` searches with."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

from resonance.chat_template import Message
from resonance.retrieval.citations import CitationFilter, align
from resonance.retrieval.factory import build_retriever
from resonance.retrieval.retriever import Retriever
from resonance.retrieval.types import Retrieved

_LOOK = 0.05  # seconds between two looks at whether the search is still wanted


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search, as one answer uses it."""

    retrieved: Retrieved

    def filter(self) -> CitationFilter:
        """What takes the numbers that no source has out of the answer."""
        return CitationFilter(self.retrieved.sources)

    def supporting(self, answer: str) -> frozenset[int]:
        """The sources whose passages hold a sentence of the answer."""
        return frozenset(align(answer, self.retrieved.sources).supports())


class Search:
    """A retriever on an event loop of its own, which waits in a thread."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="search", daemon=True).start()

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._retriever.provider

    @property
    def always(self) -> bool:
        """Whether the configuration wants a search for every message."""
        return self._retriever.always

    def find(
        self,
        messages: Sequence[Message],
        *,
        prompt_tokens: int,
        count_tokens: Callable[[str], int],
        always: bool,
        wanted: Callable[[], bool],
    ) -> Found | None:
        """Find sources for the newest message; None when no search is due, or as soon as it is no longer `wanted`.

        Args:
            messages: the conversation, the user's newest message last.
            prompt_tokens: how long the whole prompt may be.
            count_tokens: how many tokens a text is.
            always: search whatever the message says; else where it asks for it.
            wanted: looked at many times a second.
        """
        room = self._retriever.room(messages, prompt_tokens, count_tokens)
        looking = self._retriever.retrieve(messages, budget_tokens=room, count_tokens=count_tokens, always=always)
        task = asyncio.run_coroutine_threadsafe(looking, self._loop)
        try:
            while not task.done():
                wait([task], timeout=_LOOK)
                if not wanted():
                    return None
            retrieved = task.result()
        finally:
            task.cancel()
        return Found(retrieved) if retrieved.searched else None


def open_search(search: Mapping[str, Any]) -> Search | None:
    """The search that a `search` configuration describes; None for `off`. Raises SearchError."""
    retriever = build_retriever(**search)
    return None if retriever is None else Search(retriever)
