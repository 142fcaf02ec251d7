"""The web and a folder of documents in one answer."""

import asyncio

import pytest

from resonance.chat_template import Message
from resonance.retrieval import build_retriever
from resonance.retrieval.ranking import Document, pack, rank
from resonance.retrieval.types import Budget, Retrieved, SearchError, Source

from ...fake_duckduckgo import FakeDuckDuckGo

QUESTION = "What is the capital of France?"


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def both(tmp_path, fake: FakeDuckDuckGo):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "travel.md").write_text("# Travel notes\n\nIn France we stay in the capital, near the river.\n", "utf-8")
    (folder / "office.md").write_text("# Office\n\nThe debug mode of the printer is for the assistant.\n", "utf-8")
    return build_retriever(
        "documents+duckduckgo",
        search_url=fake.url,
        path=str(folder),
        index=str(tmp_path / "index"),
        limits={"spacing": 0.0, "circuit": [0.0, 0.0], "failures_ttl": 0.0},
    )


def ask(retriever, text: str, **choices) -> Retrieved:
    return asyncio.run(
        retriever.retrieve([Message("user", text)], budget_tokens=380, count_tokens=words, **choices)
    )  # fmt: skip


def test_sources_of_both_are_ranked_together_and_say_which_they_are(both):
    found = ask(both, QUESTION)
    assert both.provider == found.provider == "duckduckgo, documents" and both.kinds == ("web", "document")
    assert {source.kind for source in found.sources} == {"web", "document"}
    assert [source.id for source in found.sources] == list(range(1, len(found.sources) + 1))
    assert [source.score for source in found.sources] == sorted((s.score for s in found.sources), reverse=True)
    assert found.context.count("\n") == len(found.sources) - 1
    assert "(travel.md): In France we stay" in found.context and "(en.encyclopedia.example): Paris" in found.context


def test_a_request_chooses_one_of_them(both, fake):
    documents = ask(both, QUESTION, kinds=["document"])
    assert {source.kind for source in documents.sources} == {"document"} and documents.provider == "documents"
    assert fake.asked == []
    assert {source.kind for source in ask(both, QUESTION, kinds=["web"]).sources} == {"web"}


def test_the_web_is_asked_when_a_message_calls_for_it_and_documents_for_any_question(both, fake):
    assert [source.url for source in ask(both, "is the printer in debug mode?").sources] == ["office.md"]
    assert fake.asked == []
    assert not ask(both, "Thanks a lot!").searched


def test_documents_answer_while_the_web_fails_and_a_note_says_so(both, fake):
    fake.status = 503
    found = ask(both, QUESTION)
    assert [source.kind for source in found.sources] == ["document"]
    assert found.note == "A part of the search failed; these sources are from documents alone."


def test_a_search_in_both_needs_a_folder(tmp_path):
    with pytest.raises(SearchError, match=r"needs search\.path=PATH"):
        build_retriever("documents+duckduckgo", index=str(tmp_path))


def many(kind: str, count: int, length: int) -> list[Source]:
    made = []
    for number in range(count):
        url = f"https://{kind}{number}.example/" if kind == "web" else f"{kind}{number}.md"
        made.append(Source(number + 1, f"T{number}", url, url, " ".join([f"{kind}{number}"] * length) + ".", 1.0))
    return made


def test_places_are_shared_and_what_one_does_not_need_is_the_others():
    def documents(web: int, own: int) -> list[Document]:
        addresses = [f"https://w{i}.example/" for i in range(web)] + [f"d{i}.md" for i in range(own)]
        return [
            Document(f"Page {i}", url, f"The harbour of Brakk has number{i} cranes.", i)
            for i, url in enumerate(addresses)
        ]

    budget = Budget(max_sources=4)
    for web, own, expected in ((6, 6, (2, 2)), (6, 1, (3, 1)), (1, 6, (1, 3)), (6, 0, (4, 0))):
        kinds = [source.kind for source in rank("harbour Brakk cranes", documents(web, own), budget)]
        assert (kinds.count("web"), kinds.count("document")) == expected


def test_tokens_are_shared_and_never_exceeded():
    for web, own in ((80, 80), (80, 5), (5, 80), (300, 300)):
        sources = [*many("web", 2, web), *many("own", 2, own)]
        packed, context = pack(sources, 100, words)
        assert words(context) <= 100
        kinds = {source.kind for source in packed}
        assert kinds == {"web", "document"}, (web, own)
        assert [source.id for source in packed] == list(range(1, len(packed) + 1))
    packed, context = pack([*many("web", 1, 85), *many("own", 1, 5)], 100, words)
    assert words(context) > 90  # the documents' half is not left empty
