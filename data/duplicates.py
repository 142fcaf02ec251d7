"""Finds repeated training examples, and training examples whose prompt is in validation or test.

Texts that differ only in case and white space are equal. Near-duplicates are not detected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from data.example import SHOWN_ROWS, Example, Splits
from resonance.chat_template import Message


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Duplicates in a data set, as indices into `Splits.train`.

    `repeated`: examples that repeat an earlier one, question and answer, as pairs (earlier, repetition).
    `in_validation` and `in_test`: examples with the prompt of an example of that split, whatever the answer.
    """

    repeated: Sequence[tuple[int, int]]
    in_validation: Sequence[int]
    in_test: Sequence[int]

    @property
    def held_out(self) -> frozenset[int]:
        """All training examples whose prompt is in validation or test."""
        return frozenset((*self.in_validation, *self.in_test))


def find_duplicates(splits: Splits) -> Duplicates:
    """Compare all examples of the three splits; takes about a second per 100,000."""
    validation, test = ({_digest(example.prompt) for example in part} for part in (splits.validation, splits.test))
    first: dict[bytes, int] = {}
    repeated: list[tuple[int, int]] = []
    in_validation: list[int] = []
    in_test: list[int] = []
    for i, example in enumerate(splits.train):
        whole, prompt = _digest(example.messages), _digest(example.prompt)
        if (earlier := first.setdefault(whole, i)) != i:
            repeated.append((earlier, i))
        if example.prompt and prompt in validation:
            in_validation.append(i)
        if example.prompt and prompt in test:
            in_test.append(i)
    return Duplicates(repeated, in_validation, in_test)


def describe(duplicates: Duplicates, train: Sequence[Example]) -> list[str]:
    """One sentence per kind of duplicate, with the first examples; none without duplicates."""
    sentences: list[str] = []
    if duplicates.repeated:
        pairs = [f"{_position(train, i)} repeats {_position(train, earlier)}" for earlier, i in duplicates.repeated]
        sentences.append(f"{len(pairs):,} training examples repeat an earlier one and are kept: {_first(pairs)}")
    for name, found in (("validation", duplicates.in_validation), ("test", duplicates.in_test)):
        if found:
            matches = [f"{_position(train, i)} {_prompt_start(train[i])}" for i in found]
            sentences.append(
                f"{len(found):,} training examples ask what {name} asks and are left out of training: {_first(matches)}"
            )
    return sentences


def _digest(messages: Sequence[Message]) -> bytes:
    parts = (part for message in messages for part in (message.role, message.content, message.context or ""))
    text = "\0".join(" ".join(part.split()).casefold() for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _position(train: Sequence[Example], i: int) -> str:
    row = train[i].row
    return f"example {i + 1:,}" if row is None else f"row {row:,}"


def _prompt_start(example: Example) -> str:
    question = " ".join(example.prompt[-1].content.split()) if example.prompt else ""
    return repr(question if len(question) <= 60 else f"{question[:57]}...")


def _first(positions: Sequence[str]) -> str:
    more = len(positions) - SHOWN_ROWS
    return ", ".join(positions[:SHOWN_ROWS]) + (f" and {more:,} more" if more > 0 else "")
