"""Incremental text: whole, on time, and never a stop string."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resonance.engine.detokenizer import Detokenizer

PIECES = [
    b"a",
    b"b",
    b"ab",
    b" the",
    "é".encode()[:1],
    "é".encode()[1:],
    "😀".encode()[:2],
    "😀".encode()[2:],
    "日".encode(),
    b"\xff",
]
tokens = st.lists(st.integers(0, len(PIECES) - 1), max_size=30)
stops = st.lists(st.sampled_from(["a", "ab", "aba", "b the", "é", "😀a", "bb", "日日"]), max_size=3, unique=True)


def run(ids: list[int], stop: list[str]) -> tuple[Detokenizer, list[str]]:
    detokenizer = Detokenizer(PIECES.__getitem__, stop)
    pieces = [detokenizer.add(i) for i in ids]
    return detokenizer, [*pieces, detokenizer.finish()]


@given(ids=tokens)
def test_the_pieces_joined_are_the_whole_text(ids: list[int]) -> None:
    detokenizer, pieces = run(ids, [])
    whole = b"".join(PIECES[i] for i in ids).decode("utf-8", errors="replace")
    assert "".join(pieces) == detokenizer.text == whole
    assert detokenizer.tokens_in_text == len(ids)


@settings(max_examples=300)
@given(ids=tokens, stop=stops)
def test_the_text_ends_before_the_first_stop_string(ids: list[int], stop: list[str]) -> None:
    detokenizer = Detokenizer(PIECES.__getitem__, stop)
    text, used = "", 0
    for i in ids:
        text += detokenizer.add(i)
        used += 1
        if detokenizer.stopped:
            break
    text += detokenizer.finish()
    whole = b"".join(PIECES[i] for i in ids[:used]).decode("utf-8", errors="replace")
    cuts = [whole.index(s) for s in stop if s in whole]
    assert text == detokenizer.text == (whole[: min(cuts)] if cuts else whole)
    assert not any(s in text for s in stop)
    kept = b"".join(PIECES[i] for i in ids[: detokenizer.tokens_in_text]).decode("utf-8", errors="replace")
    assert kept.startswith(text) or "\ufffd" in kept  # the kept tokens hold the text, a character may be cut


@given(ids=tokens, stop=stops)
def test_only_what_may_still_change_is_held_back(ids: list[int], stop: list[str]) -> None:
    detokenizer = Detokenizer(PIECES.__getitem__, stop)
    given_out = ""
    for used, i in enumerate(ids, 1):
        given_out += detokenizer.add(i)
        if detokenizer.stopped:
            return
        data = b"".join(PIECES[i] for i in ids[:used])
        whole = data.decode("utf-8", errors="replace")
        certain = whole[:-1] if whole.endswith("\ufffd") else whole
        held = certain[len(given_out) :]
        assert certain.startswith(given_out) or whole == given_out
        assert not held or any(s.startswith(held) and s != held for s in stop)


def test_a_character_of_several_tokens_comes_when_its_last_byte_does() -> None:
    assert run([0, 6, 7, 1], [])[1] == ["a", "", "😀", "b", ""]


def test_an_unfinished_character_at_the_end_is_replaced() -> None:
    assert run([0, 6], [])[1] == ["a", "", "\ufffd"]


def test_a_beginning_of_a_stop_string_that_leads_nowhere_is_given_out() -> None:
    assert run([0, 1, 1], ["aba"])[1] == ["", "", "abb", ""]


def test_tokens_in_and_after_a_stop_string_are_not_counted() -> None:
    detokenizer, pieces = run([3, 0, 1, 0], ["aba"])
    assert (pieces, detokenizer.tokens_in_text) == ([" the", "", "", "", ""], 1)
    detokenizer, _ = run([3, 2, 0], ["ba"])  # the token "ab" has a share in the text
    assert (detokenizer.text, detokenizer.tokens_in_text) == (" thea", 2)
