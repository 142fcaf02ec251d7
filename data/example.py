"""Examples: conversations to train on or to score, independent of file formats and tokenizers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from resonance.chat_template import Message, Role
from resonance.tool_calling import ToolCall, with_calls

SHOWN_ROWS = 5  # rows that a report lists per kind

# Unusable rows of a source, counted from 1, by reason.
UnusableRows: TypeAlias = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to train on or to score.

    Training supervises all assistant messages. Scoring prompts with all messages but the last, and expects the last
    one, which is the assistant's. `family` groups examples in reports; None without groups. `row` is the example's row
    in its source, counted from 1; None without rows. It is excluded from comparisons and from the fingerprint.
    For preference training, `rejected` is an answer that is worse than the last message, and `desirable` the vote on
    the last message; None without one.
    """

    messages: tuple[Message, ...]
    family: str | None = None
    row: int | None = field(default=None, compare=False)
    rejected: str | None = None
    desirable: bool | None = None

    def to_json(self) -> bytes:
        """The canonical JSON, on one line and without the row; the fingerprint is computed from it."""
        content: list[object] = [self.family, [_message_json(message) for message in self.messages]]
        if self.rejected is not None or self.desirable is not None:
            content += [self.rejected, self.desirable]
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, line: bytes, row: int | None) -> Example:
        """Read what `to_json` wrote."""
        family, messages, *judgement = json.loads(line)
        return cls(tuple(_read_message(*message) for message in messages), family, row, *judgement)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All messages before the last."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The text of the last message, with its calls of functions."""
        return with_calls(self.messages[-1].content, self.messages[-1].tool_calls)


def _message_json(message: Message) -> list[object]:
    """A message as JSON; what it has of functions only where it has any, so that other fingerprints stay."""
    content: list[object] = [message.role, message.content, message.context]
    if message.uses_tools:
        content += [list(message.tools), [[call.name, call.arguments] for call in message.tool_calls]]
    return content


def _read_message(
    role: Role,
    content: str,
    context: str | None,
    tools: Sequence[str] = (),
    calls: Sequence[tuple[str, str]] = (),
) -> Message:
    return Message(role, content, context, tuple(tools), tuple(ToolCall(*call) for call in calls))


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits of a data set; `validation` and `test` may be empty. `unusable` rows are in no split.

    `validation_sources` are the numbers of validation examples of each source of a mixture, in the split's order.
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    unusable: UnusableRows = field(default_factory=dict[str, Sequence[int]])
    validation_sources: Mapping[str, int] = field(default_factory=dict[str, int])

    def indices(self) -> SplitIndices:
        """The splits' examples as indices into all of them: train first, then validation and test."""
        ends = np.cumsum([0, len(self.train), len(self.validation), len(self.test)])
        train, validation, test = (np.arange(start, end) for start, end in pairwise(ends.tolist()))
        return SplitIndices(train, validation, test, self.unusable, self.validation_sources)


@dataclass(frozen=True, slots=True)
class SplitIndices:
    """The three splits as (n,) int64 indices of a source's examples; further fields as in `Splits`."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    unusable: UnusableRows = field(default_factory=dict[str, Sequence[int]])
    validation_sources: Mapping[str, int] = field(default_factory=dict[str, int])

    def splits(self, examples: Sequence[Example]) -> Splits:
        """The splits of these examples; an example that is in a split several times is the same object."""
        train, validation, test = (
            [examples[i] for i in part.tolist()] for part in (self.train, self.validation, self.test)
        )
        return Splits(train, validation, test, self.unusable, self.validation_sources)


def shown_rows(rows: Sequence[int], what: str = "row") -> str:
    """List the first rows: `row 3`, `rows 3, 8 and 12`, `rows 3, 8, 12, 20, 21 and 40 more`."""
    first = [f"{row:,}" for row in rows[:SHOWN_ROWS]]
    if len(rows) > SHOWN_ROWS:
        return f"{what}s {', '.join(first)} and {len(rows) - SHOWN_ROWS:,} more"
    return f"{what} {first[0]}" if len(rows) == 1 else f"{what}s {', '.join(first[:-1])} and {first[-1]}"


def fingerprint(parts: Iterable[Sequence[Example]]) -> str:
    """SHA-256 (hex) over the examples' canonical JSON, in order; the same in every process and run."""
    return fingerprint_of_json((example.to_json() for example in part) for part in parts)


def fingerprint_of_json(parts: Iterable[Iterable[bytes]]) -> str:
    """The fingerprint of examples that are given as their canonical JSON."""
    digest = hashlib.sha256()
    for part in parts:
        for line in part:
            digest.update(line + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()
