"""Retrieval for models with short context windows: `build_retriever`, then `Retriever.retrieve`."""

from resonance.retrieval.citations import AlignedAnswer, CitationFilter, SentenceSupport, align
from resonance.retrieval.factory import build_retriever
from resonance.retrieval.types import Hit, Provider, RateLimited, Retrieved, SearchError, Source, Timeout, Unavailable

__all__ = [
    "AlignedAnswer",
    "CitationFilter",
    "Hit",
    "Provider",
    "RateLimited",
    "Retrieved",
    "SearchError",
    "SentenceSupport",
    "Source",
    "Timeout",
    "Unavailable",
    "align",
    "build_retriever",
]
