"""Which sentences become sources, and that they fit."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from resonance.chat_template import Message
from resonance.hydra_config import compose
from resonance.retrieval import SearchError, build_retriever
from resonance.retrieval.ranking import Document, context_of, pack, rank
from resonance.retrieval.text import sentences, site_of, terms
from resonance.retrieval.types import Budget


def count(text: str) -> int:
    return len(text.split())


def document(number: int, text: str, title: str = "Page", site: str | None = None) -> Document:
    return Document(title, f"https://{site or f's{number}.example'}/{number}", text, number)


def test_the_sentence_that_answers_comes_first():
    found = rank(
        "height of the Varnholm lighthouse",
        [
            document(0, "Varnholm has a harbour. Boats lie there in summer."),
            document(1, "The lighthouse of Varnholm has a height of 31 metres. It is red."),
            document(2, "Bread is baked at 250 degrees."),
        ],
        Budget(),
    )
    assert found[0].passage.startswith("The lighthouse of Varnholm has a height of 31 metres.")
    assert [source.id for source in found] == list(range(1, len(found) + 1))
    assert all("Bread" not in source.passage for source in found)


def test_a_title_speaks_for_sentences_that_do_not_name_their_subject():
    found = rank(
        "height of Mount Orla",
        [
            document(0, "Its height is 2,410 metres.", "Mount Orla"),
            document(1, "The height of a chair is 45 cm.", "Chairs"),
        ],
        Budget(),
    )
    assert found[0].title == "Mount Orla"


def test_what_a_question_asks_by_is_less_than_what_it_asks_about():
    """In few documents the word "long" is rarer than the ferry, and so would weigh more."""
    documents = [
        document(0, "The ferry Hanna crosses the sound in 35 minutes. The ferry has a bar.", "Ferry"),
        document(1, "The ferry leaves at six.", "Timetable of the ferry"),
        document(2, "The pier is 120 metres long."),
    ]
    found = rank("How long does the ferry take?", documents, Budget())
    assert "Hanna" in found[0].passage or "leaves" in found[0].passage
    assert all("pier" not in source.passage for source in found[:1])


def test_what_is_said_twice_is_shown_once():
    same = "The lighthouse of Varnholm was built in 1874."
    found = rank(
        "when was the Varnholm lighthouse built",
        [document(0, same), document(1, f"{same} Visitors like the lighthouse."), document(2, f"“{same}”")],
        Budget(),
    )
    assert sum("1874" in source.passage for source in found) == 1


def test_at_most_two_sources_are_of_one_site():
    texts = [
        "Varnholm has a lighthouse.",
        "A lighthouse guides Varnholm's boats.",
        "Varnholm paints its lighthouse red.",
        "From the lighthouse one sees all Varnholm.",
    ]
    found = rank(
        "Varnholm lighthouse", [document(n, text, site="one.example") for n, text in enumerate(texts)], Budget()
    )
    assert len(found) == 2


def test_files_of_one_name_in_different_folders_are_different_sources():
    texts = [
        "Varnholm has a lighthouse.",
        "A lighthouse guides Varnholm's boats.",
        "Varnholm paints its lighthouse red.",
    ]
    documents = [Document("Notes", f"year {n}/README #1?.md", text, n) for n, text in enumerate(texts)]
    found = rank("Varnholm lighthouse", documents, Budget())
    assert [source.site for source in found] == ["README #1?.md"] * 3


def test_a_document_that_hardly_touches_the_question_is_no_source():
    found = rank("annual rainfall northern Varnholm island 1974", [document(0, "Northern lights are green.")], Budget())
    assert found == []


def test_nothing_in_common_is_no_source():
    assert rank("quantum chromodynamics", [document(0, "Bread is baked.")], Budget()) == []
    assert rank("the of and", [document(0, "Bread is baked.")], Budget()) == []
    assert rank("bread", [], Budget()) == []


WORDS = st.lists(
    st.sampled_from(("Varnholm", "lighthouse", "built", "tall", "red", "1874", "harbour.", "boats!", "The")),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS.map(" ".join), max_size=8), st.integers(0, 120))
def test_sources_never_take_more_than_the_budget(texts, budget):
    found = rank("Varnholm lighthouse", [document(n, text) for n, text in enumerate(texts)], Budget())
    kept, context = pack(found, budget, count)
    assert count(context) <= budget
    assert context == context_of(kept)
    assert [source.id for source in kept] == list(range(1, len(kept) + 1))
    assert all(source.passage for source in kept)


def test_a_long_first_source_is_cut_at_a_sentence():
    text = "The lighthouse of Varnholm was built in 1874. The lighthouse of Varnholm has 142 steps and a red lamp."
    found = rank("lighthouse Varnholm", [document(0, text)], Budget())
    kept, _ = pack(found, 14, count)
    assert kept[0].passage in (
        "The lighthouse of Varnholm was built in 1874.",
        "The lighthouse of Varnholm has 142 steps …",
    )


def test_sentences_end_where_a_reader_ends_them():
    text = (
        'Dr. Smith met J. R. Stone in the U.S. in 1954. He said "Hello." Then 3.5 km later they left! '
        "Was it No. 5? 東京は首都。大阪は違う。"
    )
    assert sentences(text) == [
        "Dr. Smith met J. R. Stone in the U.S. in 1954.",
        'He said "Hello."',
        "Then 3.5 km later they left!",
        "Was it No. 5?",
        "東京は首都。",
        "大阪は違う。",
    ]


@given(st.text(max_size=300))
def test_no_letter_is_lost_between_sentences(text):
    joined = "".join("".join(sentences(text, longest=40)).split())
    separators = "|•·"
    assert [c for c in joined if c not in separators] == [c for c in "".join(text.split()) if c not in separators]


def test_words_meet_in_their_stems():
    assert terms("The cities' lighthouses were built") == terms("city lighthouse build").copy()[:0] + terms(
        "cities lighthouses built"
    )
    assert set(terms("running lamps")) & set(terms("runs lamp"))


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.example.org/a", "example.org"),
        ("https://user@EXAMPLE.org:8080/a", "example.org"),
        ("https://日本.example/x", "xn--wgv71a.example"),
        ("guide/router.md", "router.md"),
        ("guide/a: what?.md", "a: what?.md"),
        ("http://[broken/", ""),
    ],
)
def test_a_site_is_its_plain_host(url, site):
    assert site_of(url) == site


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"provider": "bing"}, "bing"),
        ({"provider": "documents"}, "search.path"),
        ({"provider": "documents", "path": "/no/such/folder", "index": "/tmp/x"}, "/no/such/folder"),
        ({"provider": "duckduckgo", "when": "never"}, "never"),
        ({"provider": "duckduckgo", "time_limit": "h"}, "'h'"),
        ({"provider": "duckduckgo", "max_results": 0}, "max_results"),
        ({"provider": "duckduckgo", "budget": {"tokens": 3}}, "tokens"),
        ({"provider": "duckduckgo", "limits": {"dead": 3}}, "dead"),
        ({"provider": "duckduckgo", "limits": {"deadline": 0}}, "search.limits.deadline is 0; it must be at least 0.2"),
        ({"provider": "duckduckgo", "budget": {"max_tokens": -1}}, "search.budget.max_tokens is -1"),
    ],
)
def test_a_setting_that_cannot_work_is_named(values, message):
    with pytest.raises(SearchError, match=message):
        build_retriever(**values)


@pytest.mark.parametrize("group", ["off", "duckduckgo", "documents", "both"])
def test_every_search_configuration_builds(tmp_path, monkeypatch, group):
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path / "home"))
    (tmp_path / "docs").mkdir()
    path = [f"search.path={tmp_path / 'docs'}"] if group in ("documents", "both") else []
    values = OmegaConf.to_container(compose("serve", [f"search={group}", *path]).search, resolve=True)
    built = build_retriever(**values)
    assert (built.provider if built else "off") == {"both": "duckduckgo, documents"}.get(group, group)
    assert (tmp_path / "home").exists() == (group != "off")


@pytest.mark.parametrize(
    ("earlier", "prompt", "room"),
    [
        (0, 768, 380),  # the most that the configuration gives
        (0, 200, 200 - 64 - 10),  # all that the newest message and the template leave
        (100, 500, 500 - 64 - 10 - 108),  # earlier turns keep what they are
        (900, 768, 380),  # up to their most: there is room for both
        (900, 384, (384 - 64 - 10) * 380 // 620),  # and a fair share where there is little
        (900, 70, 0),  # the newest message goes before all
    ],
)
def test_sources_leave_room_for_the_newest_message_and_for_earlier_ones(earlier, prompt, room):
    built = build_retriever("duckduckgo")
    assert built is not None
    before = [Message("user", "word " * earlier)] if earlier else []
    newest = Message("user", "word " * 10)
    assert built.context_budget([*before, newest], prompt, count) == room
    with_system = built.context_budget([Message("system", "word " * 6), *before, newest], prompt + 6, count)
    assert with_system == room


def test_off_is_no_retriever():
    assert build_retriever("off") is None


def test_choosing_sources_from_much_text_takes_milliseconds():
    documents = [
        document(n, "The lighthouse of Varnholm was built by the harbour board long ago. " * 60) for n in range(8)
    ]
    rank("Varnholm lighthouse", documents, Budget())
    started = time.process_time()
    pack(rank("when was the Varnholm lighthouse built", documents, Budget()), 380, count)
    assert time.process_time() - started < 0.3


def test_the_same_conversation_gets_the_same_sources(tmp_path):
    (tmp_path / "a.txt").write_text("The lighthouse was built in 1874. The lighthouse is tall.")
    (tmp_path / "b.txt").write_text("A lighthouse was built in 1903. A lighthouse is small.")
    built = build_retriever("documents", path=str(tmp_path), index=str(tmp_path / "index"))
    assert built is not None
    found = [
        asyncio.run(
            built.retrieve([Message("user", "When was the lighthouse built?")], budget_tokens=100, count_tokens=count)
        )
        for _ in range(3)
    ]
    assert found[0] == found[1] == found[2]
