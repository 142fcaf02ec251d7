"""Retrieval that a 1,024-token model can use: `build_retriever` from plain values, then its `retrieve`."""

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
