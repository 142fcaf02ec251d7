"""What a constraint is, and how an answer is checked against it: as it is (strict), or without its wrapping (loose)."""

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|`)(?=\S)(.+?)(?<=\S)\1", re.DOTALL)


class Constraint(Protocol):
    """One verifiable instruction, such as "Answer in at most five words."."""

    kind: ClassVar[str]

    @property
    def wordings(self) -> Sequence[str]:
        """Sentences that state the instruction; a prompt takes one of them."""
        ...

    def holds(self, answer: str) -> bool:
        """Whether an answer, which is not blank, follows the instruction to the letter."""
        ...


def follows_strictly(constraint: Constraint, answer: str) -> bool:
    """Whether the answer as it is, without white space around it, follows the constraint; a blank one follows none."""
    answer = answer.strip()
    return bool(answer) and constraint.holds(answer)


def follows_loosely(constraint: Constraint, answer: str) -> bool:
    """Whether the answer, or one of its `variants`, follows the constraint."""
    return any(follows_strictly(constraint, variant) for variant in variants(answer))


def variants(answer: str) -> Iterator[str]:
    """The answer, and without its first line, its last line, both, and the marks of Markdown's emphasis.

    They forgive an opening such as "Sure, here it is:", a closing remark, a code fence and bold type.
    """
    lines = answer.strip().splitlines()
    for text in (answer, "\n".join(lines[1:]), "\n".join(lines[:-1]), "\n".join(lines[1:-1])):
        yield text
        yield without_emphasis(text)


def without_emphasis(text: str) -> str:
    """The text without pairs of Markdown's marks for bold, italics and code; list markers stay."""
    return _EMPHASIS.sub(r"\2", text)


def words_of(text: str) -> list[str]:
    """The words of a text as it writes them; an apostrophe or a hyphen within a word belongs to it."""
    return _WORD.findall(text)


def same_word(word: str) -> str:
    """The form in which two words are compared: without regard to case and to the kind of apostrophe."""
    return word.replace("’", "'").casefold()
