"""Documents and passages in other languages than English are found by their words in any inflection."""

import asyncio

import pytest

from resonance.chat_template import Message
from resonance.retrieval import build_retriever
from resonance.retrieval.citations import align
from resonance.retrieval.index import Index
from resonance.retrieval.text import terms
from resonance.retrieval.types import Source

DOCUMENTS = {
    "heizung.md": "# Heizung\n\nDie Heizungen in den Häusern werden jeden Herbst von der Hausverwaltung gewartet.\n",
    "müll.md": "# Müll\n\nDie gelben Tonnen werden am Dienstag geleert. Größere Möbel holt die Stadt nach Anruf ab.\n",
    "école.md": "# École\n\nL'école primaire ouvre ses portes à huit heures. Les élèves déjeunent à la cantine.\n",
    "piscina.md": "# Piscina\n\nLa piscina municipal abre todos los días de verano. Los niños pagan dos euros.\n",
    "図書館.md": "# 図書館\n\n図書館は午前九時に開きます。本は二週間借りられます。\n",
    "garage.md": "# Garage\n\nThe garages are cleaned every spring. Bicycles have to be removed before that.\n",
}
QUESTIONS = [
    ("Wer wartet die Heizung im Haus?", "heizung.md"),
    ("Wann wird die gelbe Tonne geleert?", "müll.md"),
    ("Wohin mit einem groessen Möbelstück oder großen Möbeln?", "müll.md"),
    ("À quelle heure ouvrent les écoles primaires ?", "école.md"),
    ("quand ouvre l'ecole", "école.md"),
    ("¿Cuánto paga un niño en las piscinas?", "piscina.md"),
    ("本を借りる期間は？", "図書館.md"),
    ("When is the garage cleaned?", "garage.md"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def index(folder, tmp_path_factory):
    made = Index(folder, tmp_path_factory.mktemp("index"))
    made.update()
    return made


@pytest.mark.parametrize(("question", "document"), QUESTIONS)
def test_an_index_of_several_languages_finds_the_document(index, question, document):
    hits = index.search(question, 3)
    assert hits and hits[0].path == document


def test_an_answer_in_german_has_its_source(folder, tmp_path):
    built = build_retriever("documents", path=str(folder), index=str(tmp_path))
    assert built is not None
    found = asyncio.run(
        built.retrieve(
            [Message("user", "Wer wartet die Heizung?")],
            budget_tokens=380,
            count_tokens=lambda text: len(text.split()),
        )
    )
    assert [source.url for source in found.sources] == ["heizung.md"]
    answer = align("Die Hausverwaltung wartet die Heizungen jeden Herbst. Sie ist grün und sehr teuer.", found.sources)
    assert [sentence.sources for sentence in answer.sentences] == [(1,), ()]


def test_terms_are_stems_without_stop_words_of_their_language():
    assert terms("die Häuser und das Haus", "de") == ["haus", "haus"]
    assert terms("die Haeuser", "de") == terms("Häuser", "de")
    assert terms("l'école et les écoles", "fr") == terms("école écoles", "fr")
    assert len(set(terms("las piscinas y la piscina", "es"))) == 1
    assert terms("図書館", "ja") == ["図書", "書館"]
    assert terms("iPhone用ケース", "ja")[0] == "iphone"


def test_english_is_compared_as_before():
    assert terms("The cafés' lamps", "en") == terms("cafe lamp")
    assert align("It was built in 1874 by the harbour board.", [
        Source(1, "Lighthouse", "https://a.example/", "a.example", "The harbour board built it in 1874.", 1.0)
    ]).sentences[0].sources == (1,)  # fmt: skip
