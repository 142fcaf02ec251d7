"""Searches a set of passages in memory: the few documents of one person, which need no index on disk."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resonance.retrieval.ranking import bm25_index, bm25_scores
from resonance.retrieval.text import terms
from resonance.retrieval.types import Hit


@dataclass(frozen=True, slots=True)
class PlacedPassage:
    """A passage and its address, which a source of an answer shows."""

    title: str
    text: str
    url: str


class PassageIndex:
    """A BM25 index of passages; they do not change."""

    def __init__(self, passages: Sequence[PlacedPassage]) -> None:
        self._passages = passages
        corpus = [terms(f"{passage.title} {passage.text}") for passage in passages]
        self._bm25 = bm25_index(corpus) if any(corpus) else None

    def search(self, query: str, k: int) -> list[PlacedPassage]:
        """The `k` best passages, best first; only those that share a term with the query."""
        scores = None if self._bm25 is None else bm25_scores(self._bm25, query)
        if scores is None:
            return []
        best = np.argsort(-scores, kind="stable")[:k]
        return [self._passages[int(position)] for position in best if scores[position] > 0]


class PassageProvider:
    """A provider of `resonance.retrieval.types` on an index of passages."""

    name = "documents"

    def __init__(self, index: PassageIndex) -> None:
        self._index = index

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` passages; `region` and `time_limit` do not apply to documents."""
        found = self._index.search(query, k)
        return [Hit(one.title, one.url, one.text, rank, self.name) for rank, one in enumerate(found)]
