"""Multiple-choice questions: read from JSONL in the common layouts, or made from a test split."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from data.example import Example
from eval import EvalError
from eval.jsonl import Line, read_jsonl
from eval.tasks.base import question as as_text
from eval.text_metrics import normalise, words
from resonance.chat_template import Message

_CONTEXTS = ("context", "passage", "ctx")
_QUESTIONS = ("question", "query", "prompt", "goal", "sentence", "input", "instruction")
_CHOICES = ("choices", "options", "endings")
_ANSWERS = ("answer", "label", "answerKey", "gold", "correct", "target")
_GROUPS = ("family", "category", "subject", "activity_label")


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question as messages (the last one the user's), its choices, and the index of the right one."""

    messages: tuple[Message, ...]
    choices: tuple[str, ...]
    answer: int
    group: str | None = None

    @property
    def text(self) -> str:
        """The question's text, without the system prompt."""
        return as_text(self.messages)


def read_questions(path: str | Path) -> list[ChoiceQuestion]:
    """Read a JSONL file.

    A line has a question (`question`, `query`, `prompt`, `goal`, ...), a text before it (`context`, `passage`, `ctx`),
    or both; its choices: `choices`, `options` or `endings` as a list of texts or of {"text", "label"}, or as
    {"text": [...], "label": [...]}, or `sol1` and `sol2`; and its answer: `answer`, `label`, `answerKey` or `gold`, an
    index from 0, a letter, a choice's label, or a choice's text. `category` or `subject` groups the scores.

    Raises EvalError, with the line, for anything else.
    """
    return [_of_line(line) for line in read_jsonl(path)]


def questions_of(examples: Sequence[Example], distractors: int, seed: int) -> list[ChoiceQuestion]:
    """Questions made of a test split: the expected answer among answers to other questions of the same family.

    The distractors answer the questions that share the most words with this one, so that they are of the same kind: a
    country among countries. A question whose family has only one answer is left out. The order is random.

    Raises EvalError when no question is left.
    """
    families: dict[str | None, list[Example]] = {}
    for example in examples:
        families.setdefault(example.family, []).append(example)
    pools = {family: _Pool.of(members) for family, members in families.items()}
    found = [
        _with_distractors(
            example, pools[example.family], distractors, random.Random(f"{seed}/{as_text(example.messages)}")
        )
        for example in examples
    ]
    questions = [each for each in found if each is not None]
    if not questions:
        raise EvalError("The test split has no two questions with different answers; name a file with path=FILE.")
    return questions


@dataclass(frozen=True, slots=True)
class _Pool:
    """The different answers of a family, with the words of the questions that each answers."""

    answers: Mapping[str, tuple[str, Sequence[frozenset[str]]]]  # normalised -> as written, words of each question

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "_Pool":
        answers: dict[str, tuple[str, list[frozenset[str]]]] = {}
        for example in examples:
            key = normalise(example.answer)
            if key:
                answers.setdefault(key, (example.answer, []))[1].append(_asked(example))
        return cls(answers)


def _asked(example: Example) -> frozenset[str]:
    return frozenset(words(example.prompt[-1].content)) if example.prompt else frozenset()


def _with_distractors(example: Example, pool: _Pool, count: int, rng: random.Random) -> ChoiceQuestion | None:
    right, asked = normalise(example.answer), _asked(example)
    others = [key for key in pool.answers if key != right]
    if not right or not others:
        return None
    rng.shuffle(others)  # ties in likeness are drawn
    others.sort(key=lambda key: -max(len(asked & other) for other in pool.answers[key][1]))
    choices = [example.answer, *(pool.answers[key][0] for key in others[:count])]
    rng.shuffle(choices)
    return ChoiceQuestion(example.prompt, tuple(choices), choices.index(example.answer), example.family)


def _of_line(line: Line) -> ChoiceQuestion:
    before, asked = line.first_of(*_CONTEXTS), line.first_of(*_QUESTIONS)
    texts = [line.checked(line.text(name), name) for name in (before, asked) if name is not None]
    if not texts:
        raise line.error(f"there is no question; give one of {', '.join(_QUESTIONS)} or {', '.join(_CONTEXTS)}.")
    choices, labels = _choices(line)
    if len(choices) < 2:
        raise line.error(f"there is only one choice, {choices[0]!r}; give at least two.")
    name = line.first_of(*_ANSWERS)
    if name is None:
        raise line.error(f"there is no answer; give one of {', '.join(_ANSWERS)}.")
    answer = _index(line.fields[name], choices, labels)
    if answer is None:
        raise line.error(
            f"the field {name!r} is {line.fields[name]!r}, which is none of the {len(choices)} choices; give an index "
            "from 0, a letter, a choice's label or a choice's text."
        )
    group = line.first_of(*_GROUPS)
    return ChoiceQuestion(
        (Message("user", "\n".join(texts)),), tuple(choices), answer, None if group is None else str(line.fields[group])
    )


def _choices(line: Line) -> tuple[list[str], list[str] | None]:
    """The choices' texts, and their labels if they have any."""
    name = line.first_of(*_CHOICES)
    if name is None:
        if line.first_of("sol1") and line.first_of("sol2"):
            return [line.text("sol1"), line.text("sol2")], None
        raise line.error(f"there are no choices; give one of {', '.join(_CHOICES)}.")
    value, labels = line.fields[name], None
    if isinstance(value, dict) and "text" in value:
        fields = cast(Mapping[str, object], value)
        value, labels = fields["text"], fields.get("label")
    elif isinstance(value, list) and all(isinstance(each, dict) and "text" in each for each in value):
        rows = cast(Sequence[Mapping[str, object]], value)
        value, labels = [row["text"] for row in rows], [row.get("label") for row in rows]
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each.strip() for each in value):
        raise line.error(f"the field {name!r} must be a list of texts.")
    texts = [line.checked(text, name) for text in cast(list[str], value)]
    if not isinstance(labels, list) or len(labels) != len(texts) or None in labels:
        return texts, None
    return texts, [str(label) for label in cast(list[object], labels)]


def _index(answer: object, choices: Sequence[str], labels: Sequence[str] | None) -> int | None:
    """The index of the choice that an answer names; None if it names none."""
    if isinstance(answer, bool):
        return None
    text = str(answer).strip()
    if labels is not None and text in labels:
        return labels.index(text)
    if text.isdecimal():
        return int(text) if int(text) < len(choices) else None
    if len(text) == 1 and text.isascii() and text.isalpha():
        index = ord(text.upper()) - ord("A")
        return index if index < len(choices) else None
    return choices.index(text) if text in choices else None
