"""The checkers of verifiable instructions, each with answers that follow it and answers that do not."""

import json
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.constraints.constraint import Constraint, follows_loosely, follows_strictly, variants, words_of
from eval.constraints.content import (
    Avoids,
    Contains,
    EndsWith,
    OneOf,
    Ordered,
    RepeatsRequest,
    StartsWith,
    WithoutLetter,
)
from eval.constraints.counts import Amount, Bullets, Characters, Numbered, Paragraphs, Sentences, Words, sentences_of
from eval.constraints.form import Case, Digits, InScript, JsonObject, NoCommas, Quoted, Spelled
from eval.constraints.prompts import make_prompts

CASES: list[tuple[Constraint, list[str], list[str]]] = [
    (Words(Amount(3, 3)), ["one two three", "It's well-known here."], ["one two", "one two three four", "--- !!"]),
    (Words(Amount(low=2)), ["a b", "a b c"], ["a"]),
    (Words(Amount(high=2)), ["a", "a, b."], ["a b c"]),
    (
        Sentences(Amount(2, 2)),
        ["I go. You stay!", "Dr. Lee has 3.5 cups. Why?", "One\nTwo"],
        ["I go.", "A b. C d. E f."],
    ),
    (Characters(Amount(5, 7)), ["hello", "  hello!  "], ["hell", "hello, you"]),
    (Paragraphs(2), ["One.\n\nTwo.", "One.\n \n\nTwo\nlines."], ["One.\nTwo.", "One.\n\nTwo.\n\nThree."]),
    (Bullets(2), ["- a\n- b", "Here:\n* a\n• b\nDone."], ["- a", "-a\n-b", "- a\n- b\n- c"]),
    (
        Numbered(3),
        ["1. a\n2. b\n3. c", "Here:\n1) a\n\n2) b\n3) c"],
        ["1. a\n2. b", "1. a\n3. b\n2. c", "2. a\n3. b\n4. c"],
    ),
    (Contains("road"), ["The Road is long.", "road"], ["Many roads.", "broad"]),
    (Contains("road", 2), ["road, road"], ["road", "road roads"]),
    (Avoids(("good", "very")), ["goodness"], ["Very bad.", "It is good"]),
    (WithoutLetter("k"), ["a cat"], ["Kind", "look"]),
    (StartsWith("In short"), ["in short, yes", "In short"], ["Well, in short", "In shorts"]),
    (EndsWith("That is all."), ["Yes. that is all."], ["That is all. Bye", "that is all", "That is all.."]),
    (EndsWith("?"), ["Is it?"], ["It is.", "Is it? Yes"]),
    (OneOf(("yes", "no")), ["yes", "No.", "YES"], ["yes, it is", "maybe", "yes no"]),
    (RepeatsRequest("Why?"), ["Why? Because it is."], ["Why?", "why? Because", "Because. Why?"]),
    (Ordered(("rain", "gold")), ["gold rain", "Gold, rain."], ["rain gold", "gold", "gold moon"]),
    (Case(upper=True), ["HELLO, 3 TIMES", "É"], ["Hello", "123"]),
    (Case(upper=False), ["hello!", "ß"], ["Hello", "..."]),
    (NoCommas(), ["a b; c"], ["a, b", "一，二"]),
    (Quoted(), ['"Hello."', "“Hello.”", "«Oui»"], ['"Hello', "Hello", '""', '"a" and b', "“Hello“"]),
    (
        JsonObject(("a", "b")),
        ['{"a": 1, "b": [2]}', ' {"a":1,"b":{},"c":0}\n'],
        ['{"a": 1}', "[1]", "{a: 1, b: 2}", "x"],
    ),
    (Digits(), ["12", "-3", "1,000", "2.5", "7."], ["twelve", "12 apples", "It is 12", "."]),
    (Spelled("moon"), ["m o o n", "M-O-O-N.", "m, o, o, n"], ["moon", "m o n", "m o o n s"]),
    (InScript("CYRILLIC"), ["Привет, мир! 123"], ["Привет, Bob", "123", "Hello"]),
    (InScript("GREEK"), ["Γειά σου"], ["Привет"]),
]


@pytest.mark.parametrize(("constraint", "right", "wrong"), CASES, ids=lambda value: getattr(value, "kind", ""))
def test_a_checker_accepts_what_follows_and_rejects_what_does_not(
    constraint: Constraint, right: list[str], wrong: list[str]
) -> None:
    for answer in right:
        assert follows_strictly(constraint, answer), answer
        assert follows_loosely(constraint, answer), answer
    for answer in wrong:
        assert not follows_strictly(constraint, answer), answer


def test_every_kind_of_the_prompts_has_cases() -> None:
    used = {
        each.kind for prompt in make_prompts(basic=50, single=50, combined=50, seed=0) for each in prompt.constraints
    }
    assert used == {constraint.kind for constraint, _, _ in CASES}


@pytest.mark.parametrize("constraint", [constraint for constraint, _, _ in CASES], ids=lambda value: value.kind)
def test_a_blank_answer_follows_nothing(constraint: Constraint) -> None:
    for answer in ("", " \n\t"):
        assert not follows_strictly(constraint, answer)
        assert not follows_loosely(constraint, answer)


@pytest.mark.parametrize(
    ("constraint", "answer"),
    [
        (Case(upper=True), "Sure, here it is:\nHELLO"),
        (EndsWith("All."), "That is All.\nI hope this helps!"),
        (JsonObject(("a", "b")), '```json\n{"a": 1, "b": 2}\n```'),
        (OneOf(("yes", "no")), "**Yes**"),
        (StartsWith("In short"), "*In short*, no."),
        (Spelled("moon"), "Here:\n`m o o n`\nBye."),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_loose_checks_forgive_an_opening_a_closing_and_markdown(constraint: Constraint, answer: str) -> None:
    assert not follows_strictly(constraint, answer)
    assert follows_loosely(constraint, answer)


WORD = st.text(string.ascii_letters, min_size=1, max_size=8)


@given(st.text(max_size=80), st.sampled_from([constraint for constraint, _, _ in CASES]))
def test_whatever_follows_strictly_follows_loosely(answer: str, constraint: Constraint) -> None:
    assert follows_loosely(constraint, answer) or not follows_strictly(constraint, answer)


@given(st.lists(WORD, min_size=1, max_size=30))
def test_words_are_counted_whatever_separates_them(words: list[str]) -> None:
    for separator in (" ", ", ", "\n", " - ", "... "):
        assert words_of(separator.join(words)) == words


@given(st.lists(st.tuples(WORD, WORD, st.sampled_from(".!?")), min_size=1, max_size=9))
def test_sentences_are_counted_as_they_were_put_together(parts: list[tuple[str, str, str]]) -> None:
    sentences = [f"The {a}ing {b}ing{mark}" for a, b, mark in parts]
    assert sentences_of(" ".join(sentences)) == sentences
    assert sentences_of("\n\n".join(sentences)) == sentences


@given(st.lists(WORD, min_size=1, max_size=9), st.integers(1, 10))
def test_lists_have_as_many_items_as_were_written(items: list[str], asked: int) -> None:
    assert Bullets(asked).holds("\n".join(f"- {item}" for item in items)) == (asked == len(items))
    numbered = "\n".join(f"{i}. {item}" for i, item in enumerate(items, start=1))
    assert Numbered(asked).holds(numbered) == (asked == len(items))


@given(st.dictionaries(WORD, st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=4), min_size=1))
def test_any_json_object_with_the_keys_is_one(value: dict[str, object]) -> None:
    assert JsonObject(tuple(value)).holds(json.dumps(value))
    assert not JsonObject((*value, "missing key")).holds(json.dumps(value))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_an_amount_includes_its_limits(low: int, high: int, count: int) -> None:
    assert (count in Amount(low, high)) == (low <= count <= high)
    assert (count in Amount(low=low)) == (low <= count)
    assert (count in Amount(high=high)) == (count <= high)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (Amount(1, 1), "exactly 1 word"),
        (Amount(3, 3), "exactly 3 words"),
        (Amount(low=2), "at least 2 words"),
        (Amount(high=1), "at most 1 word"),
        (Amount(2, 5), "between 2 and 5 words"),
    ],
)
def test_an_amount_is_said_in_words(amount: Amount, words: str) -> None:
    assert amount.of("words") == words


def test_an_answer_of_one_line_has_no_blank_variant_that_counts() -> None:
    assert not follows_loosely(NoCommas(), "a, b")
    assert "a, b" in list(variants("a, b"))


def test_the_same_seed_gives_the_same_prompts_and_a_larger_number_adds_to_them() -> None:
    few, again = (make_prompts(basic=9, single=19, combined=15, seed=1) for _ in range(2))
    many = make_prompts(basic=20, single=40, combined=30, seed=1)
    assert few == again
    assert [prompt for prompt in few if prompt not in many] == []
    assert few != make_prompts(basic=9, single=19, combined=15, seed=2)


def test_prompts_are_distinct_and_as_many_as_asked_of_each_level() -> None:
    prompts = make_prompts(basic=45, single=57, combined=45, seed=0)
    assert Counter(prompt.level for prompt in prompts) == {"basic": 45, "single": 57, "combined": 45}
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        expected = {"single": {1}, "combined": {2, 3}, "basic": {1, 2, 3}}[prompt.level]
        assert len(prompt.constraints) in expected


def test_a_supply_that_runs_out_ends() -> None:
    assert 100 < len(make_prompts(basic=10**6, single=0, combined=0, seed=0)) < 10**4


def test_every_prompt_states_each_of_its_constraints() -> None:
    for prompt in make_prompts(basic=0, single=57, combined=60, seed=3):
        for constraint in prompt.constraints:
            assert any(wording in prompt.text for wording in constraint.wordings)


def test_no_prompt_asks_for_a_word_with_a_letter_that_it_forbids() -> None:
    for prompt in make_prompts(basic=0, single=0, combined=200, seed=0):
        letters = [each.letter for each in prompt.constraints if isinstance(each, WithoutLetter)]
        demanded = [each.word for each in prompt.constraints if isinstance(each, Contains)]
        demanded += [each.text for each in prompt.constraints if isinstance(each, StartsWith | EndsWith)]
        assert not [word for word in demanded for letter in letters if letter in word.casefold()]
