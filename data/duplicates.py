"""Finds repeated training examples, and training examples whose prompt is in validation or test.

Texts that differ only in case and white space are equal. Near-duplicates are not detected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data.example import SHOWN_ROWS, Example, SplitIndices, Splits
from resonance.chat_template import Message

DIGEST = np.dtype([("high", np.uint64), ("low", np.uint64)])


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


class Digests:
    """Hashes of examples, 32 bytes each, from which duplicates are found."""

    def __init__(self) -> None:
        self._wholes, self._prompts = bytearray(), bytearray()

    def add(self, example: Example) -> None:
        """Add the next example."""
        self._wholes += digest_whole(example)
        self._prompts += digest(example.prompt)

    def find_duplicates(self, parts: SplitIndices) -> Duplicates:
        """Compare the examples of the three splits, which are given as indices of the added examples."""
        wholes, prompts = (np.frombuffer(data, DIGEST) for data in (self._wholes, self._prompts))
        _, first, group = np.unique(wholes[parts.train], return_index=True, return_inverse=True)
        earlier = first[group]
        repetitions = np.flatnonzero(parts.train[earlier] != parts.train)  # an upsampled example repeats itself
        train = prompts[parts.train]
        has_prompt = train != np.frombuffer(digest(()), DIGEST)[0]
        in_validation, in_test = (
            np.flatnonzero(has_prompt & np.isin(train, prompts[part])).tolist()
            for part in (parts.validation, parts.test)
        )
        pairs = zip(earlier[repetitions].tolist(), repetitions.tolist(), strict=True)
        return Duplicates(list(pairs), in_validation, in_test)


def find_duplicates(splits: Splits) -> Duplicates:
    """Compare all examples of the three splits; takes a few seconds per 100,000."""
    digests = Digests()
    for part in (splits.train, splits.validation, splits.test):
        for example in part:
            digests.add(example)
    found = digests.find_duplicates(splits.indices())
    repeated = [(earlier, i) for earlier, i in found.repeated if splits.train[earlier] is not splits.train[i]]
    return Duplicates(repeated, found.in_validation, found.in_test)


def describe(duplicates: Duplicates, train: Sequence[Example]) -> list[str]:
    """One sentence per kind of duplicate, with the first examples; none without duplicates."""
    sentences: list[str] = []
    if count := len(duplicates.repeated):
        pairs = (f"{_position(train, i)} repeats {_position(train, earlier)}" for earlier, i in duplicates.repeated)
        sentences.append(
            f"{count:,} training examples repeat an earlier one and are kept: {_first(pairs, count)}; "
            "data.deduplicate=normalised removes them"
        )
    for name, found in (("validation", duplicates.in_validation), ("test", duplicates.in_test)):
        if found:
            matches = (f"{_position(train, i)} {_prompt_start(train[i])}" for i in found)
            sentences.append(
                f"{len(found):,} training examples ask what {name} asks and are left out of training: "
                f"{_first(matches, len(found))}"
            )
    return sentences


def digest(messages: Sequence[Message], *, normalised: bool = True) -> bytes:
    """Hash messages to 16 bytes; `normalised` ignores case and the amount of white space."""
    parts = (part for message in messages for part in _parts(message))
    text = "\0".join(" ".join(part.split()).casefold() if normalised else part for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _parts(message: Message) -> list[str]:
    calls = [call.text() for call in message.tool_calls]
    return [message.role, message.content, message.context or "", *message.tools, *calls]


def digest_whole(example: Example, *, normalised: bool = True) -> bytes:
    """Hash an example as `digest` does, with its rejected answer and its vote: two judgements are no repetition."""
    judgement = [] if example.rejected is None else [Message("assistant", example.rejected)]
    if example.desirable is not None:
        judgement.append(Message("system", str(example.desirable)))
    return digest((*example.messages, *judgement), normalised=normalised)


def _position(train: Sequence[Example], i: int) -> str:
    row = train[i].row
    return f"example {i + 1:,}" if row is None else f"row {row:,}"


def _prompt_start(example: Example) -> str:
    question = " ".join(example.prompt[-1].content.split()) if example.prompt else ""
    return repr(question if len(question) <= 60 else f"{question[:57]}...")


def _first(positions: Iterable[str], count: int) -> str:
    shown: list[str] = []
    taken = 0
    for position in positions:  # an upsampled example's copies are one row of one file
        if position not in shown:
            if len(shown) == SHOWN_ROWS:
                break
            shown.append(position)
        taken += 1
    return ", ".join(shown) + (f" and {count - taken:,} more" if count > taken else "")
