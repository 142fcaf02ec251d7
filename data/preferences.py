"""Tokenises pairs of answers (DPO) and votes on answers (KTO). Knows nothing of batches."""

from __future__ import annotations

import random
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data import DataError
from data.example import Example
from data.tokenize import EMPTY_ANSWER, EMPTY_QUESTION, HELD_OUT, IGNORE, TRUNCATED_AWAY, Report
from resonance.chat_template import ChatTemplate, Message, TemplateError

Kind: TypeAlias = Literal["pairs", "votes"]

# Reasons to skip an example.
NO_PAIR = "no rejected answer"
NO_VOTE = "no vote"
NO_PROMPT = "no question before the answer"
SAME_ANSWERS = "chosen and rejected are the same"

_TRIES = 20  # to find a completion of another prompt


@dataclass(frozen=True, slots=True)
class Sequences:
    """Prompts with an answer, in concatenated arrays; only the answer's tokens have labels.

    input_ids, labels: (tokens,) int32, labels as in `Tokenized`. offsets: (n + 1,) int64, the start of each sequence
    and the end of the last. Two sequences belong together, a unit: sequences 2 i and 2 i + 1 are those of unit i. Of a
    pair, they are the chosen and the rejected answer; of a vote, the answer and, for the estimate of the divergence
    from the reference, the answer to another prompt. desirable: (units,) bool, of votes; true for pairs. indices:
    (units,) int64, each unit's example in the split.
    """

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    offsets: NDArray[np.int64]
    desirable: NDArray[np.bool_]
    indices: NDArray[np.int64]
    report: Report

    def __len__(self) -> int:
        """The number of units."""
        return len(self.indices)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens per sequence."""
        return np.diff(self.offsets)


def tokenize_preferences(
    examples: Sequence[Example],
    kind: Kind,
    template: ChatTemplate,
    context_length: int,
    *,
    seed: int,
    held_out: Container[int] = frozenset(),
) -> Sequences:
    """Tokenise examples, each sequence into at most `context_length` tokens.

    As votes, a pair is one for its chosen and one against its rejected answer. `seed` assigns each vote the answer to
    another prompt. Examples that are no pair or vote, and those whose index is in `held_out`, are skipped and counted.

    Raises:
        DataError: the template cannot represent an example.
    """
    collected = _Collected()
    units = _pairs(examples) if kind == "pairs" else _votes(examples, seed, held_out)
    for unit in units:
        reason = HELD_OUT if unit.index in held_out else unit.skip
        if reason is None:
            try:
                fitted = [fit_answers(prompt, answers, template, context_length) for prompt, answers in unit.sequences]
            except TemplateError as error:
                raise DataError(
                    f"Example {unit.index + 1} does not fit the {template.name} template: {error}"
                ) from error
            if collected.add(unit, fitted):
                continue
            reason = TRUNCATED_AWAY
        collected.skip(reason, examples[unit.index].row or unit.index + 1)
    return collected.result(len(examples))


@dataclass(frozen=True, slots=True)
class _Unit:
    """Two sequences that belong together, as prompts with their answers; `skip` is the reason to skip it."""

    index: int
    sequences: Sequence[tuple[Sequence[Message], Sequence[str]]]
    desirable: bool = True
    skip: str | None = None


def _pairs(examples: Sequence[Example]) -> Iterator[_Unit]:
    for index, example in enumerate(examples):
        if example.rejected is None:
            yield _Unit(index, (), skip=NO_PAIR)
            continue
        skip = _reason_to_skip(example, example.answer)
        if example.answer == example.rejected:
            skip = SAME_ANSWERS
        yield _Unit(index, [(example.prompt, (example.answer, example.rejected))], skip=skip)


def _votes(examples: Sequence[Example], seed: int, held_out: Container[int]) -> Iterator[_Unit]:
    votes: list[tuple[int, str, bool]] = []
    for index, example in enumerate(examples):
        found: list[tuple[str, bool]] = []
        if example.rejected is not None:
            found = [(example.answer, True), (example.rejected, False)]
        elif example.desirable is not None:
            found = [(example.answer, example.desirable)]
        skip = _reason_to_skip(example, example.answer) if found else NO_VOTE
        if skip is not None or index in held_out:
            yield _Unit(index, (), skip=skip)
        else:
            votes += [(index, answer, desirable) for answer, desirable in found]
    rng = random.Random(f"{seed}/other answers")
    for index, answer, desirable in votes:
        prompt, other = examples[index].prompt, answer
        for _ in range(_TRIES):
            other_index, other, _ = votes[rng.randrange(len(votes))]
            if examples[other_index].prompt != prompt:
                break
        yield _Unit(index, [(prompt, (answer,)), (prompt, (other,))], desirable)


def _reason_to_skip(example: Example, answer: str) -> str | None:
    if not example.prompt or example.prompt[-1].role != "user":
        return NO_PROMPT
    if not any(message.content.strip() for message in example.prompt if message.role == "user"):
        return EMPTY_QUESTION
    return None if answer.strip() else EMPTY_ANSWER


@dataclass(frozen=True, slots=True)
class FittedAnswers:
    """Answers to one prompt as (input ids, labels); the prompt has lost its oldest turns, or answers their end."""

    sequences: Sequence[tuple[list[int], list[int]]]
    shortened: bool
    cut: bool


def fit_answers(
    prompt: Sequence[Message], answers: Sequence[str], template: ChatTemplate, context_length: int
) -> FittedAnswers | None:
    """Render answers to the same prompt, which loses its oldest turns until all fit; then the answers lose their end.

    None if an answer has no token left. Raises TemplateError.
    """
    system = 1 if prompt[0].role == "system" else 0  # leading messages to keep
    later_turns = [i for i, message in enumerate(prompt) if message.role == "user" and i > system]
    start = system
    sequences: list[tuple[list[int], list[int]]] = []
    for start in (system, *later_turns):
        kept = (*prompt[:system], *prompt[start:])
        sequences = [_sequence(kept, answer, template) for answer in answers]
        if all(len(input_ids) <= context_length for input_ids, _ in sequences):
            break
    cut = any(len(input_ids) > context_length for input_ids, _ in sequences)
    sequences = [(input_ids[:context_length], labels[:context_length]) for input_ids, labels in sequences]
    if any(all(label == IGNORE for label in labels) for _, labels in sequences):
        return None
    return FittedAnswers(sequences, start > system, cut)


def _sequence(prompt: Sequence[Message], answer: str, template: ChatTemplate) -> tuple[list[int], list[int]]:
    """Input ids up to the answer's last token but one, and labels: the next token where it belongs to the answer."""
    start = len(template.render(prompt, add_generation_prompt=True).input_ids)
    rendered = template.render((*prompt, Message("assistant", answer)))
    end = max(i for i, supervised in enumerate(rendered.loss_mask) if supervised) + 1
    labels = [IGNORE] * (start - 1) + rendered.input_ids[start:end]
    return rendered.input_ids[: end - 1], labels


@dataclass(slots=True)
class _Collected:
    """The sequences so far."""

    input_ids: list[int] = field(default_factory=list[int])
    labels: list[int] = field(default_factory=list[int])
    offsets: list[int] = field(default_factory=lambda: [0])
    desirable: list[bool] = field(default_factory=list[bool])
    indices: list[int] = field(default_factory=list[int])
    skipped: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    shortened: int = 0
    cut: int = 0

    def add(self, unit: _Unit, fitted: Sequence[FittedAnswers | None]) -> bool:
        """Add a unit's two sequences; false if one of them has no label left."""
        whole = [answers for answers in fitted if answers is not None]
        if len(whole) < len(fitted):
            return False
        for input_ids, labels in (sequence for answers in whole for sequence in answers.sequences):
            self.input_ids += input_ids
            self.labels += labels
            self.offsets.append(len(self.input_ids))
        self.desirable.append(unit.desirable)
        self.indices.append(unit.index)
        self.shortened += whole[0].shortened
        self.cut += whole[0].cut
        return True

    def skip(self, reason: str, row: int) -> None:
        self.skipped.setdefault(reason, []).append(row)

    def result(self, examples: int) -> Sequences:
        labels = np.array(self.labels, np.int32)
        report = Report(
            examples=examples,
            used=len(set(self.indices)),
            skipped={reason: len(rows) for reason, rows in self.skipped.items()},
            shortened=self.shortened,
            cut=self.cut,
            tokens=len(self.input_ids),
            supervised_tokens=int((labels != IGNORE).sum()),
            skipped_rows=self.skipped,
        )
        return Sequences(
            np.array(self.input_ids, np.int32),
            labels,
            np.array(self.offsets, np.int64),
            np.array(self.desirable, np.bool_),
            np.array(self.indices, np.int64),
            report,
        )
