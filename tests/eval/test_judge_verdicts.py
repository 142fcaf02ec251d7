"""How the judge's replies are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judge.verdicts import read_choice, read_grade


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("85", 85),
        (" 85.\n", 85),
        ("**85**", 85),
        ("85.5", 85.5),
        ("0", 0),
        ("100", 100),
        ("100%", 100),
        ("85/100", 85),
        ("85 out of 100", 85),
        ("Grade: 85", 85),
        ("Grade: **85/100**", 85),
        ("Grade (0-100): 85", 85),
        ("The grade is 85.", 85),
        ("I would give this a score of 70.", 70),
        ("On a scale from 0 to 100, I give 40.", 40),
        ("I give it 85, out of 100.", 85),
        ("85\n\nThe answer names 2 of the 3 colours and adds 1 of its own.", 85),
        ("60 - it has 2 errors", 60),
        ("It names 2 of 3 colours.\n\nScore: 55", 55),
        ("It has 2 mistakes and 1 omission.\n40", 40),
        ("75\nThe fraction 3/4 is right.", 75),
        ("<think>perhaps 20, or 30</think>85", 85),
        ("perhaps 20, or 30</think>\n85", 85),
    ],
)
def test_a_grade_is_found(reply: str, grade: float) -> None:
    assert read_grade(reply) == grade


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "very good",
        "-5",
        "Grade: -5",
        "101",
        "1000",
        "1,000",
        "8/10",
        "85/1000",
        "4 out of 5",
        "between 60 and 80",
        "Grade: 60. Grade: 80.",
        "<think>the grade is 85, or",
        "GPT4 is good",
        "nan",
        "٨٥٠",
        "from 0 to 100",
    ],
)
def test_a_reply_without_one_clear_grade_has_none(reply: str) -> None:
    assert read_grade(reply) is None


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("A", "A"),
        ("b.", "B"),
        ("**B**", "B"),
        ("[[A]]", "A"),
        ("tie", "TIE"),
        ("Answer B", "B"),
        ("A\n\nAnswer A is shorter, and answer B is wrong.", "A"),
        ("A good answer needs the name.\n\nB", "B"),
        ("Verdict: B, because A is wrong.", "B"),
        ("The better answer is A because it is right.", "A"),
        ("Answer B is clearly better than answer A.", "B"),
        ("B is better.", "B"),
        ("It's a tie.", "TIE"),
        ("<think>A is better</think>\nB", "B"),
    ],
)
def test_a_choice_is_found(reply: str, choice: str) -> None:
    assert read_choice(reply) == choice


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "C",
        "A or B",
        "A good answer, and a better one",
        "The better answer is a matter of taste.",
        "A\nB",
        "Answer A is better. Answer B is better.",
        "<think>B",
        "neither I can say",
    ],
)
def test_a_reply_without_one_clear_choice_has_none(reply: str) -> None:
    assert read_choice(reply) is None


@given(st.text())
def test_no_reply_is_too_strange(reply: str) -> None:
    grade = read_grade(reply)
    assert grade is None or 0 <= grade <= 100
    assert read_choice(reply) in (None, "A", "B", "TIE")
