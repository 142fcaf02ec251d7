"""Text metrics: exact match, token F1 and ROUGE-L."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.text_metrics import exact_match, normalise, rouge_l, token_f1


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
