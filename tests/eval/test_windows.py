"""Sliding windows score every token once, with enough context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.windows import Window, sliding_windows


@given(tokens=st.integers(0, 400), size=st.integers(2, 64), data=st.data())
def test_windows_score_each_token_once_with_enough_context(tokens: int, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, size - 1))
    windows = list(sliding_windows(tokens, size, stride))
    scored = [i for window in windows for i in range(window.first, window.end)]
    assert scored == list(range(1, tokens))
    for window in windows:
        assert window.end - window.begin <= size
        assert window.first - window.begin >= min(window.first, size - stride)


def test_a_text_that_fits_is_one_window() -> None:
    assert list(sliding_windows(7, 8, 4)) == [Window(0, 1, 7)]


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_text_without_a_second_token_has_nothing_to_score(tokens: int) -> None:
    assert list(sliding_windows(tokens, 8, 4)) == []
