"""Text metrics: exact match, token F1, ROUGE-L and chrF."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from eval.text_metrics import chrf, exact_match, normalise, rouge_l, token_f1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(" Paris ", "Paris"), ("a\n\tb", "a b"), ("cafe\u0301", "caf\u00e9"), ("", "  ")],
)
def test_what_nobody_can_see_makes_no_difference(answer: str, expected: str) -> None:
    assert exact_match(answer, expected) == 1.0


@pytest.mark.parametrize(("answer", "expected"), [("paris", "Paris"), ("Paris.", "Paris"), ("", "Paris")])
def test_case_punctuation_and_words_make_a_difference(answer: str, expected: str) -> None:
    assert exact_match(answer, expected) == 0.0


def test_token_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # 2 common words; precision 2/4, recall 2/3
    assert token_f1("the cat sat down", "The cat ran.") == pytest.approx(2 * 2 / 4 * 2 / 3 / (2 / 4 + 2 / 3))


def test_a_repeated_word_counts_as_often_as_it_is_expected() -> None:
    assert token_f1("no no no no", "no") == pytest.approx(0.4)


def test_rouge_l_minds_the_order_and_token_f1_does_not() -> None:
    assert token_f1("c b a", "a b c") == 1.0
    assert rouge_l("c b a", "a b c") == pytest.approx(1 / 3)
    assert rouge_l("a x b y c", "a b c") == pytest.approx(2 * 3 / 8)


def test_texts_without_words_are_compared_as_they_are() -> None:
    assert token_f1("?", "?") == rouge_l("?", "?") == 1.0
    assert token_f1("?", "word") == rouge_l("!", "?") == 0.0


@given(st.text(), st.text())
def test_every_measure_is_within_0_and_1_and_symmetric(left: str, right: str) -> None:
    for metric in (exact_match, token_f1, rouge_l):
        assert 0.0 <= metric(left, right) <= 1.0
        assert metric(left, right) == metric(right, left)
        assert metric(left, left) == 1.0
    assert rouge_l(left, right) <= token_f1(left, right) + 1e-12


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


CASES = [  # answer, expected, token F1, ROUGE-L, chrF; F1 and ROUGE-L by hand, chrF by hand where n-grams are few
    ("Paris", "Paris", 1.0, 1.0, 1.0),
    ("", "Paris", 0.0, 0.0, 0.0),
    ("", "", 1.0, 1.0, 1.0),
    ("Paris.", "Paris", 1.0, 1.0, None),
    ("Paris is big", "big is Paris", 1.0, 1 / 3, None),
    ("one two three four", "one three", 2 / 3, 2 / 3, None),
    ("ab", "ac", 0.0, 0.0, 0.25),  # half of the characters, none of the pairs
    ("x", "y", 0.0, 0.0, 0.0),
    ("été", "e\u0301te\u0301", 1.0, 1.0, 1.0),
    ("東京", "東京", 1.0, 1.0, 1.0),
]


@pytest.mark.parametrize(("answer", "expected", "f1", "rouge", "characters"), CASES)
def test_the_metrics_agree_with_a_table_of_cases(
    answer: str, expected: str, f1: float, rouge: float, characters: float | None
) -> None:
    assert token_f1(answer, expected) == pytest.approx(f1)
    assert rouge_l(answer, expected) == pytest.approx(rouge)
    if characters is not None:
        assert chrf(answer, expected) == pytest.approx(characters)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It opens at six in summer", "It opens at six"),
        ("blue green blue", "blue red blue blue"),
        ("nothing like it", "something else"),
        ("Yes, indeed!", "yes"),
    ],
)
def test_token_f1_is_that_of_torchmetrics_where_no_article_and_no_accent_is_involved(
    answer: str, expected: str
) -> None:
    library = squad(
        {"prediction_text": answer, "id": "0"}, {"answers": {"answer_start": [0], "text": [expected]}, "id": "0"}
    )
    assert token_f1(answer, expected) == pytest.approx(float(library["f1"]) / 100)


def test_chrf_is_the_f_score_of_character_ngrams_that_popovic_defines() -> None:
    """Computed here again for a text long enough to have n-grams of all six orders, with recall weighed twice."""
    answer, expected = "thecatsatdown", "thecatsat"
    precisions, recalls = [], []
    for n in range(1, 7):
        ours, theirs = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (answer, expected))
        common = (ours & theirs).total()
        precisions.append(common / ours.total())
        recalls.append(common / theirs.total())
    precision, recall = sum(precisions) / 6, sum(recalls) / 6
    assert chrf(answer, expected) == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert chrf("the cat sat down", "the cat sat") == pytest.approx(chrf(answer, expected))
