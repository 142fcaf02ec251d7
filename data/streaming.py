"""Streamed training data: splits, and blocks of tokenised examples, each read when it is needed (`data.streaming`).

A block is a pure function of its position and of the settings, so that a saved position is enough to go on exactly
there. Memory holds a block, the validation examples, and the hashes of their prompts, whatever the size of the data.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from data import DataError
from data.duplicates import digest, digest_whole
from data.example import Example, Splits
from data.formats import Format, read_row, recognise
from data.row_streams import Cursor, FileStream, Position, RowStream
from data.tokenize import Part, Tokenized, Totals, tokenize_part
from resonance.chat_template import ChatTemplate

PART = 200  # examples whose text is in memory at a time
DEFAULTS: Mapping[str, object] = {"buffer": 10_000, "validation": "share", "validation_size": 500}


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How streamed data is shuffled and split.

    buffer: examples that are shuffled and packed together. validation: `share` for the rows that a hash of their prompt
    assigns to it, `first` for the first rows, or the path of a file. validation_size: the most examples of validation
    and of test that are held; further ones are in no split. `validation_share` and `test_share` are those of the hash.
    """

    buffer: int
    validation: str
    validation_size: int
    validation_share: float
    test_share: float
    seed: int


def stream_settings(
    streaming: object, stream: Mapping[str, object] | None, *, validation: float, test: float, seed: int
) -> StreamSettings | None:
    """Check the keys `data.streaming` and `data.stream`; None without streaming. Raises DataError."""
    if not isinstance(streaming, bool):
        raise DataError(f"data.streaming must be true or false, not {streaming!r}.")
    given = dict(stream or {})
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise DataError(f"There is no key data.stream.{unknown[0]}; there are {', '.join(DEFAULTS)}.")
    values = {**DEFAULTS, **given}
    for name, least in (("buffer", 2), ("validation_size", 1)):
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DataError(f"data.stream.{name} must be a whole number from {least} on, not {value!r}.")
    if not isinstance(values["validation"], str) or not values["validation"]:
        raise DataError(f"data.stream.validation must be share, first or a file, not {values['validation']!r}.")
    if not streaming:
        return None
    return StreamSettings(
        int(str(values["buffer"])),
        str(values["validation"]),
        int(str(values["validation_size"])),
        validation,
        test,
        seed,
    )


class NotHeld(Sequence[Example]):
    """The training examples of streamed data, which nothing can read as a list: any use raises DataError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __len__(self) -> int:
        raise self._error()

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        """Raise DataError."""
        raise self._error()

    def _error(self) -> DataError:
        return DataError(
            f"The training examples of {self._name} are streamed (data.streaming=true) and only training reads them; "
            "set data.streaming=false, or give a part of the data in a file."
        )


class ExampleStream:
    """The examples of a stream of rows, told apart by split.

    No prompt is in training and in validation or test: `share` assigns equal prompts to the same split, and otherwise
    training skips the prompts of the validation examples. Prompts are equal as in `data.duplicates.digest`.
    """

    def __init__(self, rows: RowStream, settings: StreamSettings, name: str) -> None:
        self._rows, self.settings, self._name = rows, settings, name
        self._held: frozenset[bytes] | None = None
        self._format: Format | None = None

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the rows' identity, and of how they are split."""
        settings = self.settings
        parts: list[object] = [self._rows.identity(), settings.validation_share, settings.test_share, settings.seed]
        if settings.validation != "share":
            parts += ["first" if settings.validation == "first" else FileStream(settings.validation).identity()]
        return hashlib.sha256(repr([*parts, settings.validation_size]).encode()).hexdigest()

    def held_out(self) -> Splits:
        """Read validation and test, from the start of the data until both are complete, or to its end.

        Raises DataError when the data has no row that can be used.
        """
        size, by_share = self.settings.validation_size, self.settings.validation == "share"
        found: dict[str, list[Example]] = {"validation": [], "test": []}
        wanted = {"test": size if self.settings.test_share else 0, "validation": 0}
        if by_share:
            wanted["validation"] = size if self.settings.validation_share else 0
        else:
            found["validation"] = self._validation(size)
        self._held = frozenset() if by_share else frozenset(_key(example) for example in found["validation"])
        usable = bool(found["validation"])
        for _, example in self._examples(self._rows.open("")):
            usable = True
            if all(len(found[split]) >= count for split, count in wanted.items()):
                break
            split = self._split_of(example)
            if split in found and len(found[split]) < wanted[split]:
                found[split].append(example)
        if not usable:
            raise DataError(f"{self._name} has no row that can be used; give data with questions and answers.")
        return Splits(NotHeld(self._name), found["validation"], found["test"])

    def training_examples(self, cursor: Cursor) -> Iterator[tuple[int, Example]]:
        """Yield training examples, each with the number of its row in the pass, from 0."""
        if self._held is None:
            self.held_out()
        for row, example in self._examples(cursor):
            if self._split_of(example) == "train":
                yield row, example

    def open(self, epoch: int, position: Position | None) -> Cursor:
        """Begin an epoch, or continue one."""
        return self._rows.open(f"{self.settings.seed}/{epoch}", position)

    def _validation(self, size: int) -> list[Example]:
        """The first examples that the hash does not assign to test, or those of the validation file."""
        is_first = self.settings.validation == "first"
        rows = self._rows if is_first else FileStream(self.settings.validation)
        found: list[Example] = []
        self._held = frozenset()
        for _, example in self._examples(rows.open("")):
            if not is_first or self._split_of(example) == "train":
                found.append(example)
            if len(found) >= size:
                break
        return found

    def _split_of(self, example: Example) -> str:
        key = _key(example)
        number = hashlib.blake2b(key + str(self.settings.seed).encode(), digest_size=8).digest()
        share = int.from_bytes(number) / 2**64
        if share < self.settings.test_share:
            return "test"
        if self.settings.validation == "share":
            return "validation" if share < self.settings.test_share + self.settings.validation_share else "train"
        return "validation" if key in (self._held or ()) else "train"

    def _examples(self, cursor: Cursor) -> Iterator[tuple[int, Example]]:
        form = self._format
        for number, row in cursor:
            if form is None:  # the format of the first row is the usual one
                form = self._format = recognise(list(row))
            example = read_row(row, form, f"{cursor.where}, row {number}", number)
            if isinstance(example, Example):
                yield cursor.count - 1, example


def _key(example: Example) -> bytes:
    return digest(example.prompt) if example.prompt else digest_whole(example)


@dataclass(frozen=True, slots=True)
class BlockStart:
    """Where a block begins: its epoch, its number in the epoch, and the position of its first row; None: the first."""

    epoch: int = 0
    number: int = 0
    rows: Position | None = None

    @property
    def seed(self) -> str:
        """What the order within the block depends on, beside the run's seed."""
        return f"{self.epoch}/{self.number}"


@dataclass(frozen=True, slots=True)
class Block:
    """The tokenised training examples of a block, and what follows; `indices` count rows from the epoch's start."""

    start: BlockStart
    tokens: Tokenized
    next: BlockStart


class Blocks:
    """Reads blocks: the next examples of an epoch, up to the buffer's size; the next epoch follows its last block.

    The first block of an epoch is shorter, by a number that the epoch determines, so that an example meets others in
    each epoch.
    """

    def __init__(self, stream: ExampleStream, template: ChatTemplate, context_length: int, seed: int) -> None:
        self._stream, self._template, self._context_length, self._seed = stream, template, context_length, seed

    def read(self, start: BlockStart) -> Block:
        """Read and tokenise a block. Raises DataError as the source does."""
        size = self._stream.settings.buffer
        if start.number == 0:
            size -= random.Random(f"{self._seed}/{start.epoch}").randrange(size // 2 + 1)
        cursor = self._stream.open(start.epoch, start.rows)
        parts: list[Part] = []
        pending: list[tuple[int, Example]] = []
        totals = Totals()
        following: BlockStart | None = None

        def tokenize_pending() -> None:
            part = tokenize_part([example for _, example in pending], self._template, self._context_length)
            rows = np.array([row for row, _ in pending], np.int64)
            part = replace(part, indices=rows[part.indices])
            parts.append(part)
            totals.add(part)
            pending.clear()

        for count, (row, example) in enumerate(self._stream.training_examples(cursor), start=1):
            pending.append((row, example))
            if count == size:
                following = BlockStart(start.epoch, start.number + 1, cursor.position)
                break
            if len(pending) == PART:
                tokenize_pending()
        tokenize_pending()
        tokens = totals.with_tokens(
            np.concatenate([part.input_ids for part in parts]), np.concatenate([part.labels for part in parts])
        )
        return Block(start, tokens, following or BlockStart(start.epoch + 1))


def as_state(start: BlockStart) -> dict[str, Any]:
    """A block's start as plain values."""
    return {"epoch": start.epoch, "number": start.number, "rows": None if start.rows is None else dict(start.rows)}
