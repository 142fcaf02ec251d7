"""Retrieval on the labelled corpora, and the metrics themselves against values worked out by hand."""

import math
from statistics import mean

import pytest

from eval.retrieval_metrics import (
    FAMILIAR,
    PLAIN,
    PROSE,
    LabelledRetrieval,
    labelled_questions,
    ndcg_at,
    recall_at,
    reciprocal_rank,
)
from resonance import Tokenizer

TOKENIZER = Tokenizer.gpt2()


def count_tokens(text: str) -> int:
    return len(TOKENIZER.encode(text))


def test_the_measures_are_those_of_the_field():
    ranking = ["b", "b", "a", "c"]  # several passages of one document count once
    assert [recall_at(k, ranking, "a") for k in (1, 2, 3)] == [0.0, 1.0, 1.0]
    assert reciprocal_rank(ranking, "a") == 0.5
    assert ndcg_at(10, ranking, "a") == pytest.approx(1 / math.log2(3))
    assert (recall_at(5, ranking, "z"), reciprocal_rank(ranking, "z"), ndcg_at(10, ranking, "z")) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("folder", "answered", "absent"), [(PROSE, 60, 12), (PLAIN, 40, 12), (FAMILIAR, 20, 12)])
def test_every_question_has_its_answer_in_its_document_or_says_that_none_has(folder, answered, absent):
    questions = labelled_questions(folder)
    assert len({question.question for question in questions}) == len(questions)
    assert sum(question.document is not None for question in questions) >= answered
    assert sum(question.document is None for question in questions) >= absent
    for question in questions:
        assert (question.document is None) == (question.answer is None)
        if question.document is not None and question.answer is not None:
            assert question.answer in (folder / question.document).read_text("utf-8")


@pytest.mark.parametrize(("kind", "tokens"), [("prose", 60), ("plain", 40), ("familiar", 40)])
def test_retrieval_finds_the_answers_within_the_budget(kind, tokens):
    answered = [outcome for outcome in LabelledRetrieval(kinds=(kind,)).outcomes(count_tokens) if outcome.answer]
    scores = {name: mean(outcome.ranks[name] for outcome in answered) for name in answered[0].ranks}
    assert scores["recall@3"] >= 0.9
    assert scores["mrr"] >= 0.9
    assert scores["ndcg@10"] >= 0.9
    assert scores["context_recall"] >= 0.9
    assert mean(count_tokens(outcome.context) for outcome in answered) <= tokens


def test_what_no_document_answers_has_sources_that_do_not_hold_it():
    """Else a model could not show whether it says so."""
    outcomes = LabelledRetrieval().outcomes(count_tokens)
    absent = [outcome for outcome in outcomes if outcome.answer is None]
    assert len(outcomes) == len(LabelledRetrieval().questions())
    assert sum(bool(outcome.context) for outcome in absent) >= 0.9 * len(absent)
    assert all(outcome.ranks == {} for outcome in absent)
    assert [outcome.sentence for outcome in outcomes if outcome.question == "When does the library open?"] == [
        "The library opens at ten."
    ]


def test_an_outcome_knows_which_citations_hold():
    (outcome,) = [each for each in LabelledRetrieval().outcomes(count_tokens) if "rye bread" in each.question]
    assert outcome.sentence == "A loaf of rye bread costs four crowns."
    assert outcome.citations("A loaf of rye bread costs four crowns [1].") == (1, 1)
    assert outcome.citations("A loaf of rye bread costs nine crowns [1].") == (0, 1)
    assert outcome.citations("A loaf of rye bread costs four crowns [9].") == (0, 1)
    assert outcome.citations("A loaf of rye bread costs four crowns.") == (0, 0)
