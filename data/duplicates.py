"""Finds examples that stand twice in the training data, and those that validation or test ask for as well.

Two texts count as the same when they differ only in case and white space. Near-duplicates are not looked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from data.example import SHOWN_ROWS, Example, Splits
from resonance.chat_template import Message


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What stands more than once in a data set; all are indices into `Splits.train`.

    `repeated`: examples that repeat an earlier one, question and answer, as pairs (the earlier, the repetition).
    `in_validation` and `in_test`: examples that ask what an example of that split asks, with the same messages before
    the last answer, whatever the answer is.
    """

    repeated: Sequence[tuple[int, int]]
    in_validation: Sequence[int]
    in_test: Sequence[int]

    @property
    def held_out(self) -> frozenset[int]:
        """All that validation or test ask for."""
        return frozenset((*self.in_validation, *self.in_test))


def find_duplicates(splits: Splits) -> Duplicates:
    """Compare all examples of the three splits; about a second for 100,000 of them."""
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
    """One sentence for each kind of duplicate that there is, with the first of them; none where there are none."""
    told: list[str] = []
    if duplicates.repeated:
        pairs = [f"{_place(train, i)} repeats {_place(train, earlier)}" for earlier, i in duplicates.repeated]
        told.append(f"{len(pairs):,} training examples repeat an earlier one and are kept: {_first(pairs)}")
    for name, found in (("validation", duplicates.in_validation), ("test", duplicates.in_test)):
        if found:
            places = [f"{_place(train, i)} {_beginning(train[i])}" for i in found]
            told.append(
                f"{len(found):,} training examples ask what {name} asks and are left out of training: {_first(places)}"
            )
    return told


def _digest(messages: Sequence[Message]) -> bytes:
    parts = (part for message in messages for part in (message.role, message.content, message.context or ""))
    text = "\0".join(" ".join(part.split()).casefold() for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _place(train: Sequence[Example], i: int) -> str:
    row = train[i].row
    return f"example {i + 1:,}" if row is None else f"row {row:,}"


def _beginning(example: Example) -> str:
    question = " ".join(example.prompt[-1].content.split()) if example.prompt else ""
    return repr(question if len(question) <= 60 else f"{question[:57]}...")


def _first(places: Sequence[str]) -> str:
    more = len(places) - SHOWN_ROWS
    return ", ".join(places[:SHOWN_ROWS]) + (f" and {more:,} more" if more > 0 else "")
