"""Reads the judge's replies: a grade from 0 to 100, or which of two answers is better.

A reply that could mean several things has no verdict: it is counted, and never guessed.
"""

import re
from typing import Literal

Choice = Literal["A", "B", "TIE"]

_THINKING = re.compile(r"\A.*</think(?:ing)?>|<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)
_NUMBER = r"(?<![\w.,-])(\d+(?:\.\d+)?)(?![\w]|[.,]\d)"
_OUT_OF = r"(?:\s*(?:/|out of)\s*100\b|\s*%)?"
_SCALE = re.compile(r"\b(?:from\s+|between\s+)?0\s*(?:-|–|to|and)\s*100\b", re.IGNORECASE)
_OTHER_SCALE = re.compile(r"\d+(?:\.\d+)?\s*(?:/|out of)\s*(?!100(?![.\d]))\d+(?:\.\d+)?", re.IGNORECASE)
_LABELLED_GRADE = re.compile(
    rf"\b(?:grade|score|rating)\b(?:\s+(?:is|of|would be))?\s*[:=]?\s*{_NUMBER}{_OUT_OF}", re.IGNORECASE
)
_LONE_GRADE = re.compile(rf"^{_NUMBER}{_OUT_OF}\s*[.!]?$", re.IGNORECASE)
_LEADING_GRADE = re.compile(rf"^{_NUMBER}{_OUT_OF}\s*(?:[.:;,)]|[-–—]\s|\n|$)", re.IGNORECASE)
_OUT_OF_100 = re.compile(r"(?:/|\bout of)\s*100\b", re.IGNORECASE)
_ANY_NUMBER = re.compile(_NUMBER)

# Within a sentence A and B are capitals, because "a" is also a word.
_WORD = r"(?i:(?:answer|response|option)\s+)?"
_CHOICE = r"(A|B|(?i:tie))\b"
_LONE_CHOICE = re.compile(r"^(?:(?:answer|response|option)\s+)?(A|B|TIE)\s*[.!:]?$", re.IGNORECASE)
_NAMED_CHOICES = (
    re.compile(
        r"\b(?i:verdict|winner|choice|better(?:\s+answer)?|best(?:\s+answer)?|final\s+answer)\b(?i:\s+is)?\s*[:=]?\s*"
        rf"{_WORD}{_CHOICE}"
    ),
    re.compile(rf"\b{_WORD}(A|B)\s+(?i:is|was)\s+(?i:the\s+)?(?i:\w+\s+)?(?i:better|best|winner)\b"),
    re.compile(r"\b(?i:it\s+is|its|is|call\s+it)\s+(?i:a\s+)((?i:tie))\b"),
)


def read_grade(reply: str) -> float | None:
    """The grade in a reply, from 0 to 100; None if there is none, or if several differ.

    Takes a grade that is named as such, else one that is alone on the first or last line or leads the reply, else the
    only number. A grade on another scale, such as 8/10, is none.
    """
    text = _OTHER_SCALE.sub("", _SCALE.sub("", _plain(reply)))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    for found in (
        _LABELLED_GRADE.findall(text),
        [match[1] for line in (lines[0], lines[-1]) if (match := _LONE_GRADE.match(line))],
        [match[1] for match in (_LEADING_GRADE.match(text.strip()),) if match],
        _ANY_NUMBER.findall(_OUT_OF_100.sub("", text)),
    ):
        if found:
            grades = {float(number) for number in found}
            grade = grades.pop()
            return grade if not grades and 0 <= grade <= 100 else None
    return None


def read_choice(reply: str) -> Choice | None:
    """Which answer a reply prefers; None if it does not say, or contradicts itself.

    Takes a choice that is alone on the first or last line, else one that a sentence names as such.
    """
    text = _plain(reply).replace("[[", "").replace("]]", "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    for found in (
        [match[1] for line in (lines[0], lines[-1]) if (match := _LONE_CHOICE.match(line))],
        [choice for named in _NAMED_CHOICES for choice in named.findall(text)],
    ):
        choices = {choice.upper() for choice in found}
        if choices:
            return _as_choice(choices.pop()) if len(choices) == 1 else None
    return None


def _as_choice(text: str) -> Choice:
    return "A" if text == "A" else "B" if text == "B" else "TIE"


def _plain(reply: str) -> str:
    """A reply without its reasoning and Markdown's emphasis."""
    return re.sub(r"[*_`#\"']", "", _THINKING.sub("", reply)).strip()
