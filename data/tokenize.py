"""Tokenises conversations into input ids and labels that fit the context window, and reports what is skipped.

Knows the chat template and the window, and nothing of batches.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data import DataError
from data.example import Example, UnusableRows, shown_rows
from resonance.chat_template import ChatTemplate, Message, TemplateError
from resonance.tool_calling import with_calls

IGNORE = -100  # the label of unsupervised positions; torch's cross entropy ignores it

# Reasons to skip an example: it has nothing to train on, or it would leak into the scores.
NO_ANSWER = "no assistant message"
EMPTY_ANSWER = "empty answer"
EMPTY_QUESTION = "empty question"
TRUNCATED_AWAY = "answer outside the context window"
HELD_OUT = "asked by validation or test as well"
UNDESIRABLE = "answer with a vote against it"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of tokenising a split.

    `skipped` counts skipped examples by reason, and `skipped_rows` lists their rows, or without rows their positions in
    the split, from 1. To fit the context window, `shortened` examples lost their oldest turns, and `cut` ones the end
    of their text.
    """

    examples: int
    used: int
    skipped: Mapping[str, int]
    shortened: int
    cut: int
    tokens: int
    supervised_tokens: int
    skipped_rows: UnusableRows = field(default_factory=dict[str, Sequence[int]])

    def __str__(self) -> str:
        parts = [
            f"{self.used:,} of {self.examples:,} examples",
            f"{self.tokens:,} tokens, {self.supervised_tokens:,} of them supervised",
        ]
        for reason, count in sorted(self.skipped.items()):
            rows = self.skipped_rows.get(reason)
            parts.append(f"{count:,} skipped: {reason}" + (f" ({shown_rows(rows)})" if rows else ""))
        if self.shortened:
            parts.append(f"{self.shortened:,} without their oldest turns")
        if self.cut:
            parts.append(f"{self.cut:,} cut at the end")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Tokenised examples in concatenated arrays.

    input_ids: (tokens,) int32. labels: (tokens,) int32, the target at each position, IGNORE without one. offsets:
    (n + 1,) int64, the start of each example and the end of the last. Every example has at least one label, its last.
    indices: (n,) int64, each example's index in the split. token_ids: (U,) int64, all ids in the data, as input or
    label.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    offsets: NDArray[np.int64]
    indices: NDArray[np.int64]
    token_ids: NDArray[np.int64]
    report: Report

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens per example."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive examples of a split, tokenised: arrays as in `Tokenized`, `lengths` (n,) int64, and the counts."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    lengths: NDArray[np.int64]
    indices: NDArray[np.int64]
    examples: int
    skipped: Mapping[str, Sequence[int]]  # rows by reason
    shortened: int
    cut: int


def tokenize_part(
    examples: Iterable[Example],
    template: ChatTemplate,
    context_length: int,
    *,
    held_out: Container[int] = frozenset(),
    first: int = 0,
) -> Part:
    """Tokenise examples as `tokenize` does; `first` is the index of the first one in the split."""
    inputs: list[NDArray[np.int32]] = []
    labels: list[NDArray[np.int32]] = []
    indices: list[int] = []
    skipped: dict[str, list[int]] = {}
    shortened = cut = 0
    number = first
    for number, example in enumerate(examples, start=first + 1):
        reason = HELD_OUT if number - 1 in held_out else _reason_to_skip(example.messages)
        if example.desirable is False:
            reason = UNDESIRABLE
        if reason is None:
            try:
                fitted = _fit(example.messages, template, context_length)
            except TemplateError as error:
                which = f"Example {number}" if example.row is None else f"Row {example.row}"
                raise DataError(f"{which} does not fit the {template.name} template: {error}") from error
            if fitted is not None:
                inputs.append(np.array(fitted.input_ids, np.int32))
                labels.append(np.array(fitted.labels, np.int32))
                indices.append(number - 1)
                shortened += fitted.shortened
                cut += fitted.cut
                continue
            reason = TRUNCATED_AWAY
        skipped.setdefault(reason, []).append(example.row or number)
    nothing = [np.empty(0, np.int32)]
    return Part(
        np.concatenate(inputs or nothing),
        np.concatenate(labels or nothing),
        np.array([len(row) for row in inputs], np.int64),
        np.array(indices, np.int64),
        number - first,
        skipped,
        shortened,
        cut,
    )


class Totals:
    """What the parts of a split add up to, without their tokens."""

    def __init__(self) -> None:
        self._lengths: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._indices: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._skipped: dict[str, list[int]] = {}
        self._token_ids = np.empty(0, np.int64)
        self._examples = self._shortened = self._cut = self._supervised = 0

    def add(self, part: Part) -> None:
        """Add the next part."""
        self._lengths.append(part.lengths)
        self._indices.append(part.indices)
        for reason, rows in part.skipped.items():
            self._skipped.setdefault(reason, []).extend(rows)
        supervised = part.labels[part.labels != IGNORE]
        ids = np.concatenate([self._token_ids, part.input_ids, supervised])
        self._token_ids = np.unique(ids).astype(np.int64)
        self._examples += part.examples
        self._shortened += part.shortened
        self._cut += part.cut
        self._supervised += len(supervised)

    def with_tokens(self, input_ids: NDArray[np.int32], labels: NDArray[np.int32]) -> Tokenized:
        """Return the split, given all its parts' tokens."""
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self._lengths))])
        indices = np.concatenate(self._indices)
        report = Report(
            examples=self._examples,
            used=len(indices),
            skipped={reason: len(rows) for reason, rows in self._skipped.items()},
            shortened=self._shortened,
            cut=self._cut,
            tokens=int(offsets[-1]),
            supervised_tokens=self._supervised,
            skipped_rows=self._skipped,
        )
        return Tokenized(input_ids, labels, offsets, indices, self._token_ids, report)


def tokenize(
    examples: Sequence[Example],
    template: ChatTemplate,
    context_length: int,
    *,
    held_out: Container[int] = frozenset(),
) -> Tokenized:
    """Tokenise examples for training, each into at most `context_length` tokens.

    Tokens after the last supervised one are dropped. Examples without anything to train on, and those whose index is in
    `held_out`, are skipped and counted in the report.

    Raises:
        DataError: the template cannot represent an example.
    """
    part, totals = tokenize_part(examples, template, context_length, held_out=held_out), Totals()
    totals.add(part)
    return totals.with_tokens(part.input_ids, part.labels)


@dataclass(frozen=True, slots=True)
class _Fitted:
    input_ids: list[int]
    labels: list[int]
    shortened: bool
    cut: bool


def _reason_to_skip(messages: Sequence[Message]) -> str | None:
    """The reason why a conversation has nothing to train on, or None."""
    answers = [with_calls(message.content, message.tool_calls) for message in messages if message.role == "assistant"]
    questions = [message.content for message in messages if message.role == "user"]
    if not answers:
        return NO_ANSWER
    if not any(answer.strip() for answer in answers):
        return EMPTY_ANSWER
    if not any(question.strip() for question in questions):
        return EMPTY_QUESTION
    return None


def _fit(messages: Sequence[Message], template: ChatTemplate, context_length: int) -> _Fitted | None:
    """Fit a conversation into the window: drop the oldest turns, then cut the end. None if no label is left."""
    system = 1 if messages[0].role == "system" else 0  # leading messages to keep
    later_turns = [i for i, message in enumerate(messages) if message.role == "user" and i > system]
    inputs: list[int] = []
    labels: list[int] = []
    start = system
    for start in (system, *later_turns):
        inputs, labels = _shifted((*messages[:system], *messages[start:]), template)
        if len(inputs) <= context_length:
            break
    is_cut = len(inputs) > context_length
    if is_cut:
        inputs, labels = inputs[:context_length], labels[:context_length]
    if all(label == IGNORE for label in labels):
        return None
    return _Fitted(inputs, labels, shortened=start > system, cut=is_cut)


def _shifted(messages: Sequence[Message], template: ChatTemplate) -> tuple[list[int], list[int]]:
    """Input ids and labels: at each position the next token if it is supervised; up to the last supervised one."""
    rendered = template.render(messages)
    targets = zip(rendered.input_ids[1:], rendered.loss_mask[1:], strict=True)
    labels = [target if supervised else IGNORE for target, supervised in targets]
    while labels and labels[-1] == IGNORE:
        labels.pop()
    return rendered.input_ids[: len(labels)], labels
