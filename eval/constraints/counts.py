"""Constraints on how much an answer has: words, sentences, paragraphs, characters, list items."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from eval.constraints.constraint import words_of

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|\n+")
_ABBREVIATION = re.compile(r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e)|(?:^|\s)[A-Z])\.$", re.IGNORECASE)
_BULLET = re.compile(r"^\s*[-*•+]\s+\S")
_NUMBERED = re.compile(r"^\s*(\d{1,3})[.)]\s+\S")


@dataclass(frozen=True, slots=True)
class Amount:
    """How many are asked for: from `low` to `high`, both included. None: no limit on that side."""

    low: int | None = None
    high: int | None = None

    def __contains__(self, count: int) -> bool:
        """Whether `count` is within the limits."""
        return (self.low is None or self.low <= count) and (self.high is None or count <= self.high)

    def of(self, noun: str) -> str:
        """The amount in words, such as `at most 5 words`; `noun` is a plural with a regular singular."""
        if self.low is not None and self.high is not None and self.low != self.high:
            return f"between {self.low} and {self.high} {noun}"
        count = self.low if self.low is not None else self.high
        noun = noun.removesuffix("s") if count == 1 else noun
        which = "exactly" if self.low == self.high else "at least" if self.high is None else "at most"
        return f"{which} {count} {noun}"


@dataclass(frozen=True, slots=True)
class Words:
    """A number of words."""

    kind: ClassVar[str] = "words"
    amount: Amount

    @property
    def wordings(self) -> Sequence[str]:
        """Three sentences."""
        amount = self.amount.of("words")
        return f"Use {amount}.", f"The answer must have {amount}.", f"Keep it to {amount}."

    def holds(self, answer: str) -> bool:
        """Count `words_of` the answer."""
        return len(words_of(answer)) in self.amount


@dataclass(frozen=True, slots=True)
class Sentences:
    """A number of sentences."""

    kind: ClassVar[str] = "sentences"
    amount: Amount

    @property
    def wordings(self) -> Sequence[str]:
        """Three sentences."""
        amount = self.amount.of("sentences")
        return f"Write {amount}.", f"Your answer should consist of {amount}.", f"Say it in {amount}."

    def holds(self, answer: str) -> bool:
        """Count `sentences_of` the answer."""
        return len(sentences_of(answer)) in self.amount


@dataclass(frozen=True, slots=True)
class Characters:
    """A number of characters, white space included."""

    kind: ClassVar[str] = "characters"
    amount: Amount

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        amount = self.amount.of("characters")
        return f"Answer with {amount}, spaces included.", f"The whole answer must have {amount}, counting spaces."

    def holds(self, answer: str) -> bool:
        """Count the answer's code points."""
        return len(answer) in self.amount


@dataclass(frozen=True, slots=True)
class Paragraphs:
    """A number of paragraphs, which blank lines separate."""

    kind: ClassVar[str] = "paragraphs"
    count: int

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return (
            f"Write {self.count} paragraphs with a blank line between them.",
            f"Divide the text into {self.count} paragraphs, separated by blank lines.",
        )

    def holds(self, answer: str) -> bool:
        """Count the parts between blank lines."""
        return len([part for part in re.split(r"\n\s*\n", answer) if part.strip()]) == self.count


@dataclass(frozen=True, slots=True)
class Bullets:
    """A number of bullet points; other lines may stand around them."""

    kind: ClassVar[str] = "bullets"
    count: int

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return (
            f"Give {self.count} bullet points, each on a line that begins with a dash.",
            f"Use a list with {self.count} items, one a line, each after '- '.",
        )

    def holds(self, answer: str) -> bool:
        """Count the lines that begin with a dash, an asterisk, a plus sign or a bullet."""
        return sum(bool(_BULLET.match(line)) for line in answer.splitlines()) == self.count


@dataclass(frozen=True, slots=True)
class Numbered:
    """A numbered list of so many items, counted from 1."""

    kind: ClassVar[str] = "numbered"
    count: int

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return (
            f"Number the items from 1 to {self.count}, one a line.",
            f"Write a numbered list with {self.count} entries: 1., 2. and so on.",
        )

    def holds(self, answer: str) -> bool:
        """Compare the numbers at the lines' beginnings with 1, 2, ..."""
        found = [int(match[1]) for line in answer.splitlines() if (match := _NUMBERED.match(line))]
        return found == list(range(1, self.count + 1))


def sentences_of(text: str) -> list[str]:
    """The sentences of a text: parts with a word, ended by . ! ? … before white space, or by a line's end.

    Common abbreviations, initials and an item's number end none. Where a text is not plain prose a count is a
    convention, the same for all models.
    """
    parts: list[str] = []
    pending, start = "", 0
    for match in [*_SENTENCE_END.finditer(text), None]:
        end = len(text) if match is None else match.start()
        pending += text[start:end]
        goes_on = match is not None and "\n" not in match.group() and _is_open(pending)
        if goes_on and match is not None:
            pending += match.group()
        elif words_of(pending):
            parts.append(pending.strip())
            pending = ""
        else:
            pending = ""
        start = len(text) if match is None else match.end()
    return parts


def _is_open(part: str) -> bool:
    """Whether the full stop at the end of a part belongs to an abbreviation or to an item's number."""
    return bool(_ABBREVIATION.search(part) or re.fullmatch(r"\s*\d{1,3}\.", part))
