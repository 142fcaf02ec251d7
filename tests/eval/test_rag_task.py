"""Answers from sources, judged; by a small model that says what it has been taught."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from data.example import Example
from eval.evaluate import Result
from eval.evaluated_model import EvaluatedModel
from eval.results import scores_of
from eval.retrieval_metrics import LabelledQuestion, RetrievalOutcome
from eval.tasks.rag import Rag, contains, declines
from resonance.chat_template import Message
from resonance.retrieval.ranking import context_of
from resonance.retrieval.types import Retrieved, Source
from tests.eval.conftest import run_task

Taught = Callable[[list[Example]], EvaluatedModel]
OPENS = "The bakery opens at six."
SHARK = "The shark is fed at noon."


def outcome(question: str, answer: str | None, sentence: str | None, passage: str | None = None) -> RetrievalOutcome:
    """A question whose one source is `passage`, else the sentence that answers it, else none."""
    passage = passage or sentence
    sources = (Source(1, "Town", "town.md", "town.md", passage, 1.0),) if passage else ()
    found = Retrieved(question, "documents", sources, context_of(sources))
    ranks = {"recall@1": 1.0, "mrr": 0.5} if answer else {}
    return RetrievalOutcome(question, answer, "plain", sentence, ranks, found)


@dataclass(frozen=True, slots=True)
class Few:
    """A held-out set of a few questions."""

    asked: Sequence[RetrievalOutcome]

    def questions(self) -> list[tuple[str, LabelledQuestion]]:
        return [
            (each.kind, LabelledQuestion(each.question, "town.md" if each.answer else None, each.answer))
            for each in self.asked
        ]

    def outcomes(self, count_tokens: Callable[[str], int]) -> Sequence[RetrievalOutcome]:
        return self.asked


ASKED = (
    outcome("When does the bakery open?", "six", OPENS),
    outcome("When is the shark fed?", "noon", SHARK),
    outcome("Who owns the bakery?", None, None, passage=OPENS),
    outcome("Who owns the moon?", None, None),
)


def teach(taught: Taught, said: Mapping[int, str], alone: str = "No idea") -> EvaluatedModel:
    """A model that says `said` to these questions with their sources, and `alone` to all of them without."""
    return taught(
        [
            Example((Message("user", ASKED[place].question, ASKED[place].context), Message("assistant", text)))
            for place, text in said.items()
        ]
        + [Example((Message("user", each.question), Message("assistant", alone))) for each in ASKED]
    )


def counted(result: Result, group: str | None = None) -> dict[str, tuple[float, int]]:
    return {
        name: (metric.value(), metric.n) for (of, name), metric in result.metrics().items() if of == group and metric.n
    }


def test_answers_from_the_sources_are_told_from_answers_out_of_the_head(taught: Taught) -> None:
    model = teach(taught, {0: f"{OPENS[:-1]} [1].", 1: "It eats at noon [1].", 2: "The sources do not say."})
    task = Rag(Few(ASKED), max_new_tokens=16)
    result = run_task(task, model, [])
    assert counted(result) == {
        "correct": (1.0, 3),
        "exact_match": (0.5, 2),  # the source's own sentence counts, a number of it or none; other words do not
        "contains": (1.0, 2),
        "contains_without_sources": (0.0, 2),
        "says_when_absent": (1.0, 1),  # what has no source at all cannot be said of sources
        "says_so_wrongly": (0.0, 2),
        "citation_precision": (0.5, 2),  # "It eats" is not what the source says
    }
    assert counted(result, "by_family") == {"absent": (1.0, 1), "plain": (1.0, 2)}
    assert counted(result, "retrieval") == {"recall@1": (1.0, 2), "mrr": (0.5, 2)}
    assert [record.correct for record in result.records] == [True, True, True, None]
    assert ASKED[0].context in result.records[0].question


def test_an_answer_where_there_is_none_and_none_where_there_is_one_are_wrong(taught: Taught) -> None:
    model = teach(taught, {0: "The sources do not say.", 1: "Noon", 2: "It belongs to six"}, alone="six")
    result = run_task(Rag(Few(ASKED), max_new_tokens=16), model, [])
    found = counted(result)
    assert found["contains"] == found["exact_match"] == (0.5, 2)
    assert found["contains_without_sources"] == (0.5, 2)
    assert found["says_when_absent"] == (0.0, 1)
    assert found["says_so_wrongly"] == (0.5, 2)
    assert "citation_precision" not in scores_of(result)  # nothing was cited


def test_a_question_that_does_not_fit_with_its_sources_is_wrong_and_told(
    model: Callable[[str], EvaluatedModel],
) -> None:
    long = outcome("When does the bakery open?", "six", OPENS, passage=f"{OPENS} {'word ' * 200}")
    result = run_task(Rag(Few((long, ASKED[3])), max_new_tokens=4), model("fresh"), [])
    assert counted(result)["contains"] == (0.0, 1)
    assert result.notes == ("1 of 2 questions with their sources do not fit into the context and count as wrong.",)


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("It opens at SIX, I think.", "six", True),
        ("It opens at sixteen.", "six", False),
        ("384,400 km", "384,400", True),
        ("Ivo and Nora Falk", "Nora Falk", True),
        ("Nora is no Falk", "Nora Falk", False),
        ("", "six", False),
    ],
)
def test_an_answer_is_contained_as_whole_words_in_a_row(text: str, answer: str, found: bool) -> None:
    assert contains(text, answer) is found


@pytest.mark.parametrize(
    "text",
    [
        "The sources do not say.",
        "The sources do not hold the answer.",
        "None of the sources mentions it.",
        "That is not in the documents.",
        "The context doesn't tell.",
        "I don't know.",
        "I cannot find that here.",
        "There is no information about it.",
    ],
)
def test_saying_that_there_is_no_answer_is_recognised(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize(
    "text", ["The bakery opens at six [1].", "No.", "It is not open.", "The source is a spring.", ""]
)
def test_an_answer_is_not_taken_for_its_refusal(text: str) -> None:
    assert not declines(text)
