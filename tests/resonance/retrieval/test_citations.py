"""Numbers that no source has are removed; sentences are held against the sources by their words."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resonance.retrieval.citations import CitationFilter, align, remove_unknown_citations
from resonance.retrieval.types import Source


def source(number: int, title: str, passage: str) -> Source:
    return Source(number, title, f"https://s{number}.example/", f"s{number}.example", passage, 1.0)


SOURCES = (
    source(1, "Varnholm", "The lighthouse of Varnholm was built in 1874. It is 31 metres tall."),
    source(2, "Harbours", "The harbour of Tolness was enlarged in 1902 for the herring fleet."),
)


@pytest.mark.parametrize(
    ("answer", "cleaned"),
    [
        ("It was built in 1874 [1].", "It was built in 1874 [1]."),
        ("It was built in 1874 [3].", "It was built in 1874."),
        ("Built in 1874 [1][7] and 31 m tall [9] [2].", "Built in 1874 [1] and 31 m tall [2]."),
        ("Both [1, 2, 3].", "Both [1, 2]."),
        ("None [4,5].", "None."),
        ("[8] begins.", " begins."),
        ("A list [a] and x[i] and [] stay.", "A list [a] and x[i] and [] stay."),
        ("Year [1874] is no source.", "Year is no source."),
        ("Open [1", "Open [1"),
    ],
)
def test_numbers_that_no_source_has_are_removed(answer, cleaned):
    assert remove_unknown_citations(answer, SOURCES) == cleaned


def test_a_sentence_in_a_sources_words_is_matched_with_and_without_a_number():
    aligned = align("The lighthouse was built in 1874. The harbour of Tolness was enlarged in 1902 [2].", SOURCES)
    assert [(s.sources, s.cited, s.matched) for s in aligned.sentences] == [((1,), (), True), ((2,), (2,), True)]
    assert aligned.supports() == {1: [0], 2: [1]}
    assert aligned.citations() == (1, 1)


def test_a_wrong_number_in_a_sentence_means_that_no_source_holds_it():
    aligned = align("The lighthouse of Varnholm was built in 1875 [1].", SOURCES)
    assert not aligned.sentences[0].matched
    assert aligned.citations() == (0, 1)


def test_a_sentence_of_its_own_is_not_matched():
    assert not align("Lobsters are blue until somebody boils them.", SOURCES).sentences[0].matched


def test_a_sentence_that_says_nothing_is_not_matched():
    assert not align("Yes.", SOURCES).sentences[0].matched


def test_a_number_behind_the_full_stop_belongs_to_the_sentence_before():
    aligned = align("The lighthouse of Varnholm was built in 1874. [1] The harbour was enlarged in 1902. [2]", SOURCES)
    assert [(s.text, s.cited) for s in aligned.sentences] == [
        ("The lighthouse of Varnholm was built in 1874. [1]", (1,)),
        ("The harbour was enlarged in 1902. [2]", (2,)),
    ]


def test_an_answer_without_citations_cites_nothing():
    assert align("The lighthouse was built in 1874.", SOURCES).citations() == (0, 0)


def test_a_number_that_no_source_has_counts_as_a_wrong_citation_where_it_is_kept():
    answer = "The lighthouse of Varnholm was built in 1874 [1] [7]."
    assert align(answer, SOURCES, keep_unknown=True).citations() == (1, 2)


def test_without_a_search_the_stream_is_left_as_it_is():
    filtered = CitationFilter(None)
    assert filtered.feed("a[1") + filtered.feed("] = 2") + filtered.flush() == "a[1] = 2"


def test_where_a_search_found_nothing_no_number_leads_anywhere():
    filtered = CitationFilter(())
    assert filtered.feed("It opens at six [") + filtered.feed("1].") + filtered.flush() == "It opens at six."


def test_of_a_short_sentence_each_word_must_be_in_the_source():
    museum, zoo = source(1, "Museum", "The museum opens at nine."), source(2, "Zoo", "The zoo opens at ten.")
    aligned = align("The zoo opens at nine [2].", [museum, zoo])
    assert not aligned.sentences[0].matched
    assert align("The zoo opens at ten [2].", [museum, zoo]).supports() == {2: [0]}


PIECES = st.lists(
    st.sampled_from(["The ", "tower", " [", "[", "1", "2", "7", "12", ", ", ",", "]", " ", ".", "\n", "x["])
)


@given(PIECES)
def test_a_stream_shows_what_the_whole_answer_would(pieces):
    filtered = CitationFilter(SOURCES)
    shown = "".join([*(filtered.feed(piece) for piece in pieces), filtered.flush()])
    assert shown == remove_unknown_citations("".join(pieces), SOURCES)


@given(st.text(max_size=200) | PIECES.map("".join))
@example("[[0]0]")
@example("[7 [0], 9]")
def test_every_sentence_stands_where_it_says(answer):
    aligned = align(answer, SOURCES)
    assert all(aligned.text[s.start : s.end] == s.text for s in aligned.sentences)
    assert all(number in (1, 2) for s in aligned.sentences for number in s.cited)


def test_a_stream_without_brackets_is_not_held_back():
    filtered = CitationFilter(SOURCES)
    assert filtered.feed("The tower") == "The tower"
    assert filtered.feed(" was built [1") == " was built"
    assert filtered.feed("].") == " [1]."


def test_a_wrong_number_in_words_is_a_wrong_number():
    opens = source(1, "Bakery", "The bakery opens at six.")
    assert align("The bakery opens at six [1].", [opens]).citations() == (1, 1)
    assert align("The bakery opens at seven [1].", [opens]).citations() == (0, 1)
