"""Families of tasks: contents and wordings, and how they combine into conversations."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from data.basics.tables import Row
from resonance.chat_template import Message


@dataclass(frozen=True, slots=True)
class Wording:
    """One wording of a task: format strings over a content's fields.

    `before` holds earlier (user, assistant) turns; `context` is the text behind the answers, attached to the first
    question.
    """

    question: str
    answer: str
    context: str | None = None
    before: tuple[tuple[str, str], ...] = ()

    def render(self, fields: Row) -> tuple[Message, ...]:
        """Render the conversation, which ends with the assistant's answer."""
        context = None if self.context is None else self.context.format_map(fields)
        messages: list[Message] = []
        for question, answer in (*self.before, (self.question, self.answer)):
            messages.append(Message("user", question.format_map(fields), None if messages else context))
            messages.append(Message("assistant", answer.format_map(fields)))
        return tuple(messages)


Vary: TypeAlias = Callable[[Row, random.Random], Row]


@dataclass(frozen=True, slots=True)
class Task:
    """A relation whose contents combine with all wordings.

    `vary` adds random fields (the order of a list, irrelevant sentences). Two different (content, wording) pairs must
    never produce the same question in the same context.
    """

    contents: tuple[Row, ...]
    wordings: tuple[Wording, ...]
    vary: Vary | None = None

    def make(self, content: int, wording: int, rng: random.Random) -> tuple[Message, ...]:
        """The conversation of a content and a wording, given by index."""
        fields = self.contents[content]
        if self.vary is not None:
            fields = fields | self.vary(fields, rng)
        return self.wordings[wording].render(fields)


@dataclass(frozen=True, slots=True)
class Family:
    """Tasks that are reported together. `weight` is the family's relative share of training."""

    name: str
    tasks: tuple[Task, ...]
    weight: float = 1.0


def ask(answer: str, *questions: str, context: str | None = None) -> tuple[Wording, ...]:
    """Several questions with the same answer."""
    return tuple(Wording(question, answer, context) for question in questions)


def with_article(noun: str) -> str:
    """The noun with its article, `a` or `an`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
