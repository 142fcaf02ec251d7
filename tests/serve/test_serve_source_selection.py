"""Where an answer's sources come from: the request's choice, else the conversation's."""

import pytest

from resonance.retrieval.types import Kind
from serve.api.schemas.requests import ChatRequest
from serve.generation.source_selection import SourceSelection, select_sources

BOTH: tuple[Kind, ...] = ("web", "document")


def chosen(stored: str | None, available: tuple[Kind, ...] = BOTH, **fields: object) -> SourceSelection:
    body = ChatRequest.model_validate({"messages": [{"role": "user", "content": "Hi"}]} | fields)
    return select_sources(body, stored, available)


def test_without_any_choice_everything_is_searched_as_configured():
    assert chosen(None) == SourceSelection(BOTH, None)


@pytest.mark.parametrize(
    ("stored", "kinds", "documents"),
    [("web", ("web",), False), ("documents", ("document",), True), ("both", BOTH, True), ("off", (), False)],
)
def test_the_conversations_choice_holds(stored, kinds, documents):
    assert chosen(stored) == SourceSelection(kinds, documents)
    assert chosen(None, search_sources=stored) == SourceSelection(kinds, documents)


def test_the_requests_choice_comes_before_the_conversations():
    assert chosen("off", search_sources="web") == SourceSelection(("web",), False)
    assert chosen("web", search_sources="off") == SourceSelection((), False)
    assert chosen("web", search={"sources": ["documents"]}) == SourceSelection(("document",), False)
    assert chosen("web", documents=True) == SourceSelection(("web",), True)
    assert chosen("both", search=False) == SourceSelection((), True)


def test_a_search_that_is_asked_for_keeps_the_sources_but_lifts_off():
    assert chosen("web", search=True) == SourceSelection(("web",), False)
    assert chosen("web", search={"query": "ferries"}) == SourceSelection(("web",), False)
    assert chosen("off", search=True) == SourceSelection(BOTH, None)


def test_what_a_server_does_not_have_any_more_is_left_out():
    assert chosen("web", available=()) == SourceSelection((), False)
    assert chosen("both", available=("document",)) == SourceSelection(("document",), True)
