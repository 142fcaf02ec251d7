"""Retrieval that a 1,024-token model can use: `build_retriever` from plain values, then its `retrieve`."""

from serve.rag.build import build_retriever
from serve.rag.citations import Aligned, CitationFilter, Supported, align
from serve.rag.contract import Hit, Provider, RateLimited, Retrieved, SearchError, Source, Timeout, Unavailable

__all__ = [
    "Aligned",
    "CitationFilter",
    "Hit",
    "Provider",
    "RateLimited",
    "Retrieved",
    "SearchError",
    "Source",
    "Supported",
    "Timeout",
    "Unavailable",
    "align",
    "build_retriever",
]
