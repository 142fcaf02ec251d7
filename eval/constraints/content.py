"""Constraints on what an answer says: words and letters in it, its beginning and end, a choice, an order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from eval.constraints.constraint import same_word, words_of


@dataclass(frozen=True, slots=True)
class Contains:
    """A word that must occur so many times at least."""

    kind: ClassVar[str] = "contains"
    word: str
    times: int = 1

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        if self.times == 1:
            return f'Include the word "{self.word}".', f'The word "{self.word}" must appear in your answer.'
        return (
            f'Use the word "{self.word}" at least {self.times} times.',
            f'The word "{self.word}" must appear {self.times} times or more.',
        )

    def holds(self, answer: str) -> bool:
        """Count whole words, in any case."""
        return sum(same_word(word) == same_word(self.word) for word in words_of(answer)) >= self.times


@dataclass(frozen=True, slots=True)
class Avoids:
    """Words that must not occur."""

    kind: ClassVar[str] = "avoids"
    words: tuple[str, ...]

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        if len(self.words) == 1:
            return f'Do not use the word "{self.words[0]}".', f'Avoid the word "{self.words[0]}".'
        listed = " and ".join(f'"{word}"' for word in self.words)
        return f"Do not use the words {listed}.", f"Avoid the words {listed}."

    def holds(self, answer: str) -> bool:
        """Compare whole words, in any case."""
        return not {same_word(word) for word in self.words} & {same_word(word) for word in words_of(answer)}


@dataclass(frozen=True, slots=True)
class WithoutLetter:
    """A letter that must not occur."""

    kind: ClassVar[str] = "without_letter"
    letter: str

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return f'Do not use the letter "{self.letter}".', f'No word may contain the letter "{self.letter}".'

    def holds(self, answer: str) -> bool:
        """Look for the letter in either case."""
        return self.letter.casefold() not in answer.casefold()


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The words that the answer begins with."""

    kind: ClassVar[str] = "starts_with"
    text: str

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return f'Begin with the words "{self.text}".', f'Your answer must start with "{self.text}".'

    def holds(self, answer: str) -> bool:
        """Compare in any case; the last word of the beginning must be a whole one."""
        rest = answer[len(self.text) :]
        return answer.casefold().startswith(self.text.casefold()) and not rest[:1].isalnum()


@dataclass(frozen=True, slots=True)
class EndsWith:
    """The words, or the mark, that the answer ends with."""

    kind: ClassVar[str] = "ends_with"
    text: str

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        if not self.text[-1:].isalnum() and len(self.text) == 1:
            return f"The last character must be {self.text}", f"End the answer with {self.text}"
        return f'End with the exact words "{self.text}"', f'The last words must be "{self.text}"'

    def holds(self, answer: str) -> bool:
        """Compare in any case; nothing may follow, and the first word of the end must be a whole one."""
        before = answer[: -len(self.text)]
        whole = not (self.text[:1].isalnum() and before[-1:].isalnum())
        return answer.casefold().endswith(self.text.casefold()) and whole


@dataclass(frozen=True, slots=True)
class OneOf:
    """Options of which the answer is exactly one."""

    kind: ClassVar[str] = "one_of"
    options: tuple[str, ...]

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        listed = f"{', '.join(self.options[:-1])} or {self.options[-1]}"
        return f"Answer only with {listed}.", f"Reply with one of these and nothing else: {listed}."

    def holds(self, answer: str) -> bool:
        """Compare in any case; a full stop may follow."""
        return same_word(answer.removesuffix(".")) in {same_word(option) for option in self.options}


@dataclass(frozen=True, slots=True)
class RepeatsRequest:
    """The request itself, word for word, before the answer to it."""

    kind: ClassVar[str] = "repeats_request"
    request: str

    @property
    def wordings(self) -> Sequence[str]:
        """Two sentences."""
        return (
            "First repeat the sentence above word for word, then answer it.",
            "Before you answer, copy the first sentence of this message without any change.",
        )

    def holds(self, answer: str) -> bool:
        """Compare to the letter; something must follow."""
        return answer.startswith(self.request) and bool(words_of(answer[len(self.request) :]))


@dataclass(frozen=True, slots=True)
class Ordered:
    """The given words, each once, in alphabetical order."""

    kind: ClassVar[str] = "ordered"
    words: tuple[str, ...]

    @property
    def wordings(self) -> Sequence[str]:
        """One sentence."""
        return ("Put the words in alphabetical order.",)

    def holds(self, answer: str) -> bool:
        """The answer's words are the given ones, and none precedes the one before it."""
        found = [same_word(word) for word in words_of(answer)]
        return sorted(found) == sorted(map(same_word, self.words)) and all(a <= b for a, b in pairwise(found))
