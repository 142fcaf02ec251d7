"""Recognises the common forms of instruction data by their columns and turns rows into conversations.

Knows rows as dictionaries; where they come from is the business of `data/sources.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from data.errors import DataError
from data.examples import Example
from resonance.chat import Message, Role

Row: TypeAlias = Mapping[str, Any]

# What other people's data calls the three roles.
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}

# Columns that name a group of examples; the first that a row has becomes its family.
_FAMILY_COLUMNS = ("family", "category")


@dataclass(frozen=True, slots=True)
class Format:
    """A form of instruction data: the columns it must have, those it may have, and how a row is read."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Row], list[Message]]

    def __str__(self) -> str:
        optional = "".join(f" [{column}]" for column in self.optional)
        return f"{self.name} ({' '.join(self.required)}{optional})"


def recognise(columns: Sequence[str]) -> Format:
    """The format that has these columns; further columns do no harm.

    Raises:
        DataError: no format fits; the sentence shows the columns found and those wanted.
    """
    for form in FORMATS:
        if set(form.required) <= set(columns):
            return form
    found = ", ".join(columns) if columns else "none"
    raise DataError(f"The data has the columns {found}; wanted is one of: {'; '.join(map(str, FORMATS))}.")


def read_rows(rows: Iterable[Row], columns: Sequence[str], where: str) -> list[Example]:
    """Read all rows in the format that their columns show. `where` names the data in errors.

    Rows are counted from 1, as a person counts them; a CSV file's header is not a row.

    Raises:
        DataError: no format fits, or a row cannot be read; the sentence names the row.
    """
    try:
        form = recognise(columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    examples: list[Example] = []
    for number, row in enumerate(rows, start=1):
        try:
            examples.append(Example(_whole_turns(form.read(row)), _family(row)))
        except DataError as error:
            raise DataError(f"{where}, row {number}: {error}") from None
    return examples


def _text(row: Row, column: str) -> str:
    """A cell as text; an absent or empty cell is an empty text, which is counted when it is tokenised."""
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"`{column}` is {_shown(value)}; it must be a text.")


def _instruction(answer: str, context: str) -> Callable[[Row], list[Message]]:
    """A reader of rows with an instruction, an answer, and a text that the answer may draw on."""

    def read(row: Row) -> list[Message]:
        given = _text(row, context)
        return [
            Message("user", _text(row, "instruction"), given if given.strip() else None),
            Message("assistant", _text(row, answer)),
        ]

    return read


def _prompt(row: Row) -> list[Message]:
    return [Message("user", _text(row, "prompt")), Message("assistant", _text(row, "completion"))]


def _turns(column: str) -> Callable[[Row], list[Message]]:
    """A reader of rows that hold a list of turns, each with `role` and `content` or with `from` and `value`."""

    def read(row: Row) -> list[Message]:
        turns = row.get(column)
        if not isinstance(turns, list | tuple):
            raise DataError(f"`{column}` is {_shown(turns)}; it must be a list of turns.")
        return [_turn(turn, f"turn {number} of `{column}`") for number, turn in enumerate(turns, start=1)]

    return read


def _turn(turn: object, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{where} is {_shown(turn)}; it must have `role` and `content`, or `from` and `value`.")
    keys = ("from", "value") if turn.get("from") is not None else ("role", "content")
    name = turn.get(keys[0])
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"{where} has the {keys[0]} {name!r}; known are {', '.join(_ROLES)}.")
    if role == "system" and where.split()[1] != "1":
        raise DataError(f"{where} is a system message; it can only be the first turn.")
    context = _text(turn, "context") if role == "user" else ""
    return Message(role, _text(turn, keys[1]), context if context.strip() else None)


def _whole_turns(messages: list[Message]) -> tuple[Message, ...]:
    """The conversation from its first question to its last answer; all of it when it holds no such pair."""
    opening = 1 if messages and messages[0].role == "system" else 0
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
    if not users or not answers or answers[-1] < users[0]:
        return tuple(messages)
    return (*messages[:opening], *messages[users[0] : answers[-1] + 1])


def _family(row: Row) -> str | None:
    for column in _FAMILY_COLUMNS:
        value = row.get(column)
        if isinstance(value, str) and value:
            return value
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


FORMATS = (
    Format("messages", ("messages",), (), _turns("messages")),
    Format("ShareGPT", ("conversations",), (), _turns("conversations")),
    Format("Alpaca", ("instruction", "output"), ("input",), _instruction("output", "input")),
    Format("Dolly", ("instruction", "response"), ("context",), _instruction("response", "context")),
    Format("prompt/completion", ("prompt", "completion"), (), _prompt),
)
