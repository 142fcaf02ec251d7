"""Where an answer's sources may come from: what the request says, else what its conversation has stored."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from resonance.retrieval.types import Kind
from serve.api.errors import ApiError
from serve.api.schemas.requests import ChatRequest, SearchQuery
from serve.api.service import Service

SOURCES: dict[Kind, Literal["web", "documents"]] = {
    "web": "web",
    "document": "documents",
}  # kinds as requests name them


@dataclass(frozen=True, slots=True)
class SourceSelection:
    """The kinds that the server's search may look in, and whether the caller's own documents are drawn on.

    `documents` is None where a message decides: the conversation's always, the library's where one is searched.
    """

    kinds: tuple[Kind, ...]
    documents: bool | None


def select_sources(body: ChatRequest, stored: str | None, available: Iterable[Kind]) -> SourceSelection:
    """Choose the sources of an answer.

    `stored` is the conversation's choice, `available` what the server searches. `search` and `documents` decide for
    this answer where they are given; the request's `search_sources` comes next, then the conversation's.
    """
    choice = body.search_sources or stored
    asked = body.search if isinstance(body.search, SearchQuery) else None
    if choice == "off" and body.search:
        choice = None  # a search is asked for after all
    if body.search is False:
        names: list[str] = []
    elif asked is not None and asked.sources is not None:
        names = list(asked.sources)
    else:
        names = {"web": ["web"], "documents": ["documents"], "off": []}.get(choice or "both", ["web", "documents"])
    documents = body.documents
    if documents is None and choice is not None:
        documents = choice in ("documents", "both")
    return SourceSelection(tuple(kind for kind in available if SOURCES[kind] in names), documents)


def check_sources(service: Service, choice: str | None) -> None:
    """Raise ApiError 400 for a choice that the server cannot honour: owners' own documents are always there."""
    kinds: tuple[Kind, ...] = () if service.retriever is None else service.retriever.kinds
    if choice in ("web", "both") and "web" not in kinds:
        raise ApiError(
            400,
            "This server does not search the web; choose documents or off.",
            param="search_sources",
            code="search_disabled",
        )
