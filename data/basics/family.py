"""What a family of tasks is: contents, wordings, and how the two become a conversation."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from data.basics.tables import Row
from resonance.chat_template import Message


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to put a task: format strings over a content's fields.

    `before` holds earlier turns as (user, assistant); `context` is the text that the answers draw on, given with
    the first question.
    """

    question: str
    answer: str
    context: str | None = None
    before: tuple[tuple[str, str], ...] = ()

    def render(self, fields: Row) -> tuple[Message, ...]:
        """The conversation, ending with the assistant's answer."""
        context = None if self.context is None else self.context.format_map(fields)
        messages: list[Message] = []
        for question, answer in (*self.before, (self.question, self.answer)):
            messages.append(Message("user", question.format_map(fields), None if messages else context))
            messages.append(Message("assistant", answer.format_map(fields)))
        return tuple(messages)


Vary: TypeAlias = Callable[[Row, random.Random], Row]


@dataclass(frozen=True, slots=True)
class Task:
    """One relation: every content can be put in every wording.

    `vary` adds fields that are free to differ each time (the order of a listing, sentences beside the point).
    Two different (content, wording) pairs must never give the same question in the same context.
    """

    contents: tuple[Row, ...]
    wordings: tuple[Wording, ...]
    vary: Vary | None = None

    def make(self, content: int, wording: int, rng: random.Random) -> tuple[Message, ...]:
        """The conversation for a content and a wording, by their indices."""
        fields = self.contents[content]
        if self.vary is not None:
            fields = fields | self.vary(fields, rng)
        return self.wordings[wording].render(fields)


@dataclass(frozen=True, slots=True)
class Family:
    """Tasks that are reported together. `weight` is the family's share of training, relative to 1."""

    name: str
    tasks: tuple[Task, ...]
    weight: float = 1.0


def ask(answer: str, *questions: str, context: str | None = None) -> tuple[Wording, ...]:
    """Several questions with the same form of answer."""
    return tuple(Wording(question, answer, context) for question in questions)


def with_article(noun: str) -> str:
    """The noun with `a` or `an`, by its first letter."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
