"""Tokenises conversations into input ids and labels that fit the context window, and reports what is skipped.

Knows the chat template and the window, and nothing of batches.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data import DataError
from data.example import Example, UnusableRows, shown_rows
from resonance.chat_template import ChatTemplate, Message, TemplateError

IGNORE = -100  # the label of unsupervised positions; torch's cross entropy ignores it

# Reasons to skip an example: it has nothing to train on, or it would leak into the scores.
NO_ANSWER = "no assistant message"
EMPTY_ANSWER = "empty answer"
EMPTY_QUESTION = "empty question"
TRUNCATED_AWAY = "answer outside the context window"
HELD_OUT = "asked by validation or test as well"


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
    indices: (n,) int64, each example's index in the split.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    offsets: NDArray[np.int64]
    indices: NDArray[np.int64]
    report: Report

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens per example."""
        return np.diff(self.offsets)


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
    inputs: list[list[int]] = []
    labels: list[list[int]] = []
    indices: list[int] = []
    skipped: dict[str, list[int]] = {}
    shortened = cut = 0
    for number, example in enumerate(examples, start=1):
        reason = HELD_OUT if number - 1 in held_out else _reason_to_skip(example.messages)
        if reason is None:
            try:
                fitted = _fit(example.messages, template, context_length)
            except TemplateError as error:
                raise DataError(f"Example {number} does not fit the {template.name} template: {error}") from error
            if fitted is not None:
                inputs.append(fitted.input_ids)
                labels.append(fitted.labels)
                indices.append(number - 1)
                shortened += fitted.shortened
                cut += fitted.cut
                continue
            reason = TRUNCATED_AWAY
        skipped.setdefault(reason, []).append(example.row or number)
    flat_labels = np.fromiter((label for row in labels for label in row), np.int32)
    offsets = np.cumsum([0, *map(len, inputs)], dtype=np.int64)
    report = Report(
        examples=len(examples),
        used=len(inputs),
        skipped={reason: len(rows) for reason, rows in skipped.items()},
        shortened=shortened,
        cut=cut,
        tokens=int(offsets[-1]),
        supervised_tokens=int((flat_labels != IGNORE).sum()),
        skipped_rows=skipped,
    )
    flat_inputs = np.fromiter((i for row in inputs for i in row), np.int32)
    return Tokenized(flat_inputs, flat_labels, offsets, np.asarray(indices, np.int64), report)


@dataclass(frozen=True, slots=True)
class _Fitted:
    input_ids: list[int]
    labels: list[int]
    shortened: bool
    cut: bool


def _reason_to_skip(messages: Sequence[Message]) -> str | None:
    """The reason why a conversation has nothing to train on, or None."""
    answers = [message.content for message in messages if message.role == "assistant"]
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
