"""Constraints on the form of an answer: case, punctuation, quotation marks, JSON, digits, writing system."""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.constraints.constraint import words_of

Script = Literal["LATIN", "CYRILLIC", "GREEK"]
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“"}


@dataclass(frozen=True, slots=True)
class Case:
    """All letters upper case, or all lower case."""

    kind: ClassVar[str] = "case"
    upper: bool

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        if self.upper:
            return "Write everything in capital letters.", "Use upper case only."
        return "Write everything in small letters, even the first one.", "Use lower case only: no capital letters."

    def holds(self, answer: str) -> bool:
        """At least one letter has a case, and all that have one have the right one."""
        return answer.isupper() if self.upper else answer.islower()


@dataclass(frozen=True, slots=True)
class NoCommas:
    """No comma."""

    kind: ClassVar[str] = "no_commas"

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return "Do not use any commas.", "Your answer must not contain a comma."

    def holds(self, answer: str) -> bool:
        """Look for the comma, also that of Arabic, Chinese and Japanese."""
        return not re.search("[,،，、]", answer)


@dataclass(frozen=True, slots=True)
class Quoted:
    """The whole answer between quotation marks."""

    kind: ClassVar[str] = "quoted"

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return (
            "Put the whole answer between double quotation marks.",
            "Wrap everything you say in double quotation marks.",
        )

    def holds(self, answer: str) -> bool:
        """A pair of quotation marks encloses at least one word."""
        return len(answer) > 2 and _QUOTES.get(answer[0]) == answer[-1] and bool(words_of(answer[1:-1]))


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object with at least these keys, and nothing around it."""

    kind: ClassVar[str] = "json"
    keys: tuple[str, ...]

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        listed = f"{', '.join(self.keys[:-1])} and {self.keys[-1]}"
        return (
            f"Answer with a JSON object that has the keys {listed}, and nothing else.",
            f"Give the answer as valid JSON with the keys {listed}; write no other text.",
        )

    def holds(self, answer: str) -> bool:
        """Parse it."""
        try:
            value: object = json.loads(answer)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and all(key in value for key in self.keys)


@dataclass(frozen=True, slots=True)
class Digits:
    """One number in digits, and nothing else."""

    kind: ClassVar[str] = "digits"

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return "Answer with a number in digits and nothing else.", "Reply with digits only."

    def holds(self, answer: str) -> bool:
        """Digits, with a sign, separators or a decimal part; a full stop may follow."""
        return bool(re.fullmatch(r"[-+]?\d+(?:[ ,']\d{3})*(?:[.,]\d+)?\.?", answer))


@dataclass(frozen=True, slots=True)
class Spelled:
    """A word's letters, one by one."""

    kind: ClassVar[str] = "spelled"
    word: str

    @property
    def wordings(self) -> Sequence[str]:
        """One sentence."""
        return ("Put spaces or dashes between its letters.",)

    def holds(self, answer: str) -> bool:
        """The words of the answer are the letters, in order and in any case."""
        letters = re.split(r"[\s,.-]+", answer.strip(" .,-"))
        return [letter.casefold() for letter in letters] == list(self.word.casefold())


@dataclass(frozen=True, slots=True)
class InScript:
    """A writing system of all letters."""

    kind: ClassVar[str] = "script"
    script: Script

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        name = self.script.capitalize()
        return f"Use {name} letters only.", f"Every letter of your answer must be {name}."

    def holds(self, answer: str) -> bool:
        """Compare the names that Unicode gives to the letters; there must be one."""
        letters = [char for char in answer if char.isalpha()]
        return bool(letters) and all(unicodedata.name(char, "").startswith(self.script) for char in letters)
