"""Deciding when to search, and for what, in other languages than English."""

import subprocess
import sys
import time

import pytest

from resonance.chat_template import Message
from resonance.retrieval.language_detection import language_scores
from resonance.retrieval.lexicon import lexica, lexicon
from resonance.retrieval.query_rewriting import standalone_query
from resonance.retrieval.search_decision import decide


def said(*turns: str) -> list[Message]:
    return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(turns)]


def assert_about(query: str, words: str) -> None:
    """These words, and a question word at most."""
    assert set(words.split()) <= set(query.split()) and len(query.split()) <= len(words.split()) + 1, query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Suche im Internet nach Rezepten für Grünkohl", "Rezepten Grünkohl"),
        ("Kannst du das im Netz nachsehen: Warum schnurren Katzen?", "schnurren Katzen"),
        ("Google bitte Wanderwege im Harz", "Wanderwege Harz"),
        ("search the web for kale recipes", "kale recipes"),
        ("Cherche sur le web des recettes de crêpes", "recettes crêpes"),
        ("Busca en internet recetas de paella", "recetas paella"),
        ("Cerca su internet ricette di pesto", "ricette pesto"),
        ("Найди в интернете рецепт блинов", "рецепт блинов"),
        ("Wyszukaj w internecie przepis na żurek", "przepis żurek"),
        ("ابحث في الإنترنت عن وصفة الحمص", "وصفة الحمص"),
        ("ネットで味噌汁のレシピを調べて", "味噌汁 レシピ"),
    ],
)
def test_an_explicit_request_is_obeyed_and_searches_for_its_object(text, query):
    decision = decide(said(text))
    assert decision.search and decision.reason == "a search is asked for"
    assert_about(standalone_query(said(text)), query)


def test_an_explicit_request_is_obeyed_whatever_it_is_about():
    assert decide(said("Search the web for a poem about autumn")).search
    assert decide(said("Suche im Internet nach einem Gedicht über den Herbst")).search
    assert decide(said("Look up how to sort a list in Python")).search


@pytest.mark.parametrize(
    ("turns", "query"),
    [
        (("Wer schrieb Faust?", "Johann Wolfgang von Goethe.", "Wann starb er?"), "starb Johann Goethe Wolfgang"),
        (("Wie hoch ist der Watzmann?", "2713 Meter.", "Und der Säntis?"), "hoch Säntis"),
        (("Wie wird das Wetter in Kiel?", "Windig.", "Und am Freitag?"), "Wetter Kiel Freitag"),
        (("Qui a écrit Candide ?", "Voltaire.", "Quand est-il mort ?"), "Voltaire mort"),
        (("¿Cuál es la capital de Cuba?", "La Habana.", "¿Y la de Honduras?"), "capital Honduras"),
    ],
)  # fmt: skip
def test_a_follow_up_is_completed_from_the_conversation(turns, query):
    assert decide(said(*turns)).search
    assert_about(standalone_query(said(*turns)), query)


def test_german_nouns_are_no_names():
    assert not decide(said("Soll ich das Fenster öffnen?")).search
    assert not decide(said("Warum ist der Schnee weiß?")).search
    assert decide(said("Ist das Kolosseum in Rom älter?")).search


def test_in_a_language_without_a_lexicon_a_question_that_names_something_is_searched_in_its_own_words():
    assert not lexicon("fi").known
    text = "Mikä on Tanskan pääkaupunki?"
    assert language_scores(text)[0][0] == "fi" and decide(said(text)).search
    assert {"Tanskan", "pääkaupunki"} <= set(standalone_query(said(text)).split())
    assert not decide(said("Kirjoita runo merestä.")).search


def test_documents_are_searched_for_german_questions_but_not_for_small_talk():
    wanted = ["Wie setze ich den Router zurück?", "was steht in der Hausordnung zum Rauchen?", "Ist Rauchen erlaubt?"]
    refused = ["Hallo", "Danke schön!", "Schreib ein Gedicht über das Meer.", "Wie geht es dir?"]
    assert [decide(said(text), eager=True).search for text in wanted] == [True] * len(wanted)
    assert [decide(said(text), eager=True).search for text in refused] == [False] * len(refused)


def test_every_entry_of_every_lexicon_compiles_and_no_message_takes_long():
    hostile = ["wer " * 5000, "suche " * 5000, "und und " * 3000, "l'" * 9000, "は？" * 9000, "¿" * 9000, "Ich " * 5000]
    started = time.process_time()
    for text in hostile:
        decide(said(text, "ja", text))
        standalone_query(said(text, "ja", text))
    for one in lexica():
        for field in one.fields:
            for how in ("anywhere", "start", "whole", "all"):
                one.match(field, "x", how)
    assert time.process_time() - started < 6.0


def test_a_message_takes_less_than_ten_milliseconds():
    messages = [
        said(f"Wer hat Band {number} geschrieben?", "Anna Berg.", f"Wann wurde sie {number} geboren?")
        for number in range(40)
    ]
    decide(messages[0]), standalone_query(messages[0])
    started = time.process_time()
    for each in messages:
        decide(each)
        standalone_query(each)
    assert (time.process_time() - started) / len(messages) < 0.010


def test_the_detector_is_loaded_by_the_first_message_and_not_by_the_import():
    code = (
        "import sys, resonance.retrieval.search_decision as s; before = 'fasttext' in sys.modules;"
        "from resonance.chat_template import Message; s.decide([Message('user', 'Wer war das?')]);"
        "print(before, 'fasttext' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
