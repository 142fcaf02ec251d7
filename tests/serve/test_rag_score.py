"""Retrieval on the labelled corpus, and the measures themselves against values worked out by hand."""

import math

import pytest

from resonance import Tokenizer
from serve.rag.score import (
    LABELLED,
    labelled_questions,
    ndcg_at,
    recall_at,
    reciprocal_rank,
    score_retrieval,
)


def test_the_measures_are_those_of_the_field():
    ranking = ["b", "b", "a", "c"]  # several passages of one document count once
    assert [recall_at(k, ranking, "a") for k in (1, 2, 3)] == [0.0, 1.0, 1.0]
    assert reciprocal_rank(ranking, "a") == 0.5
    assert ndcg_at(10, ranking, "a") == pytest.approx(1 / math.log2(3))
    assert (recall_at(5, ranking, "z"), reciprocal_rank(ranking, "z"), ndcg_at(10, ranking, "z")) == (0.0, 0.0, 0.0)


def test_every_question_has_its_answer_in_its_document():
    questions = labelled_questions()
    assert len(questions) >= 60
    assert len({question.question for question in questions}) == len(questions)
    for question in questions:
        assert question.answer in (LABELLED / question.document).read_text("utf-8")


def test_retrieval_finds_the_answers_within_the_budget():
    tokenizer = Tokenizer.gpt2()
    scores = score_retrieval(lambda text: len(tokenizer.encode(text)))
    assert scores["recall@3"] >= 0.9
    assert scores["mrr"] >= 0.9
    assert scores["ndcg@10"] >= 0.9
    assert scores["context_recall"] >= 0.9
    assert scores["context_tokens"] <= 120
