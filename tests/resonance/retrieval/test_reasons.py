"""Reasons and problems of searches: codes for programs, sentences for people."""

import re
from pathlib import Path

import pytest

from resonance.chat_template import Message
from resonance.retrieval.reasons import PROBLEM_CODES, REASON_CODES, Problem, Reason
from resonance.retrieval.search_decision import decide

API = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the height of the Zugspitze?", Reason("named_fact", "Zugspitze")),
        ("What is the weather today?", Reason("changing_fact", "weather")),
        ("Suche im Internet nach Fähren", Reason("search_requested")),
        ("Hello!", Reason("small_talk")),
        ("What is 3 + 4?", Reason("calculation")),
    ],
)
def test_a_message_is_decided_on_for_a_reason_with_a_code(text, expected):
    assert decide([Message("user", text)]).why == expected


def test_a_follow_up_has_the_code_of_what_it_follows():
    messages = [
        Message("user", "Who was Ada Holm?"),
        Message("assistant", "A botanist."),
        Message("user", "And where?"),
    ]
    decision = decide(messages)
    assert decision.search and decision.why == Reason("named_fact", "Ada Holm", follows=True)
    assert decision.reason == "follows: asks for a fact about Ada Holm"


def test_every_code_has_a_sentence_and_stands_in_the_documentation():
    documented = set(re.findall(r"`(\w+)`", API.read_text(encoding="utf-8")))
    for code in REASON_CODES:
        assert Reason(code, "x").sentence() and code in documented
    for code in PROBLEM_CODES:
        assert Problem(code).sentence().endswith(".") and code in documented


def test_a_problem_says_what_was_used_instead():
    assert "are 2 hours old" in Problem("timeout", age_s=7260).sentence()
    assert "from documents alone" in Problem("rate_limited", answered="documents").sentence()
