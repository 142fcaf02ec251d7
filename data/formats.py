"""Recognises the common formats of instruction data by their columns, and converts rows to conversations.

Rows are dictionaries; `data/sources.py` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from data import DataError
from data.example import Example, UnusableRows, shown_rows
from data.files import Row, preview
from data.tool_turns import ordered_results, read_calls, read_tools, with_tools_offered
from resonance.chat_template import Message, Role
from resonance.tool_calling import with_calls

# Other data sets' names of the roles.
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}

# Columns that name a group of examples; a row's first one becomes its family.
_FAMILY_COLUMNS = ("family", "category")


@dataclass(frozen=True, slots=True)
class Format:
    """A format of instruction data: required and optional columns, and how to read a row."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Row], list[Message]]

    def __str__(self) -> str:
        optional = "".join(f" [{column}]" for column in self.optional)
        return f"{self.name} ({' '.join(self.required)}{optional})"


def recognise(columns: Sequence[str]) -> Format:
    """The format with these columns; further columns are ignored.

    Raises:
        DataError: no format fits; the message lists the columns of the data and of the formats.
    """
    for form in FORMATS:
        if set(form.required) <= set(columns):
            return form
    found = ", ".join(columns) if columns else "none"
    raise DataError(f"The data has the columns {found}; wanted is one of: {'; '.join(map(str, FORMATS))}.")


class _Unusable(Exception):
    """A row lacks a text that its format requires; the message is the same for all such rows."""


def read_rows(
    rows: Iterable[Row], columns: Sequence[str], where: str, add: Callable[[Example], None]
) -> tuple[int, UnusableRows]:
    """Read all rows, each in the format whose columns it fills, and pass each example to `add`.

    `where` names the data in errors. Rows are counted from 1; a CSV file's header is not a row. Rows that lack a
    required text are skipped. Returns the number of examples, and the skipped rows by reason.

    Raises:
        DataError: no format fits, a cell is no text, or no row is usable; the message names rows.
    """
    try:
        form = recognise(columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    unusable: dict[str, list[int]] = {}
    count = 0
    for number, row in enumerate(rows, start=1):
        example = read_row(row, form, f"{where}, row {number}", number)
        if isinstance(example, Example):
            add(example)
            count += 1
        else:
            unusable.setdefault(example, []).append(number)
    if not count:
        reasons = "; ".join(f"{reason} ({shown_rows(numbers)})" for reason, numbers in unusable.items())
        raise DataError(f"{where} has no row that can be used: {reasons}; give data with questions and answers.")
    return count, unusable


def read_row(row: Row, usual: Format, where: str, number: int) -> Example | str:
    """Read a row in the format whose columns it fills; return its example, or the reason why it cannot be used.

    `usual` is the format of the data set's columns. Raises DataError, which begins with `where`, for a cell that is no
    text.
    """
    try:
        messages = _format_of(row, usual).read(row)
        return Example(_complete_turns(messages), _family(row), number, _rejected(row), _vote(row))
    except _Unusable as reason:
        return str(reason)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _format_of(row: Row, usual: Format) -> Format:
    """The format whose columns the row fills; `usual` is the format of the data set's columns."""
    for form in (usual, *FORMATS):
        if all(not _is_missing(row.get(column)) for column in form.required):
            return form
    filled = [column for column, value in row.items() if not _is_missing(value)]
    if filled and not any(column in usual.required for column in filled):
        raise _Unusable(f"another format, with the columns {', '.join(filled)}")
    return usual


def _is_missing(value: object) -> bool:
    """Whether a cell is null, or the NaN that some programs write for null."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(row: Row, column: str, where: str = "") -> str:
    """A text or number cell as text. Raises _Unusable for a missing one, and DataError for any other type."""
    value = row.get(column)
    if _is_missing(value):
        raise _Unusable(f"{where}`{column}` is {'null' if column in row else 'missing'}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{where}`{column}` is {preview(value)}; it must be a text.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"{where}`{column}` holds half a character (a lone surrogate); mend the text.") from None
    return value


def _context(row: Row, column: str) -> str | None:
    """An optional cell as text; None if it is blank or absent."""
    text = "" if _is_missing(row.get(column)) else _text(row, column)
    return text if text.strip() else None


def _instruction(answer: str, context: str) -> Callable[[Row], list[Message]]:
    """A reader of rows with an instruction, an answer, and an optional context."""

    def read(row: Row) -> list[Message]:
        return [
            Message("user", _text(row, "instruction"), _context(row, context)),
            Message("assistant", _text(row, answer)),
        ]

    return read


def _prompt(row: Row) -> list[Message]:
    """The column `prompt`: a question, or a list of turns."""
    if isinstance(row.get("prompt"), list | tuple):
        return _turns("prompt")(row)
    return [Message("user", _text(row, "prompt"))]


def _answer(row: Row, column: str) -> list[Message]:
    """A column with an answer as a text, as a list with one turn, or as the last turn of a whole conversation."""
    if not isinstance(row.get(column), list | tuple):
        return [Message("assistant", _text(row, column))]
    turns = _turns(column)(row)
    if not turns or turns[-1].role != "assistant":
        raise _Unusable(f"`{column}` does not end with an answer")
    return turns


def _completion(row: Row) -> list[Message]:
    answer = _answer(row, "completion")
    if len(answer) > 1:
        raise _Unusable("`completion` has several turns")
    return [*_prompt(row), *answer]


def _chosen(row: Row) -> list[Message]:
    """The conversation up to the better answer."""
    chosen = _answer(row, "chosen")
    if len(chosen) > 1:  # a whole conversation
        return chosen
    if _is_missing(row.get("prompt")):
        raise _Unusable("`chosen` is an answer without a `prompt`")
    return [*_prompt(row), *chosen]


def _rejected(row: Row) -> str | None:
    """The worse answer of a row with `chosen` and `rejected`; None without them."""
    if _is_missing(row.get("chosen")) or _is_missing(row.get("rejected")):
        return None
    chosen, rejected = _answer(row, "chosen"), _answer(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise _Unusable("`chosen` and `rejected` differ before their last turn")
    return with_calls(rejected[-1].content, rejected[-1].tool_calls)


def _vote(row: Row) -> bool | None:
    """The column `label` of a prompt and its completion, if it is a vote: true or false, in CSV as a word."""
    label = row.get("label")
    if _is_missing(row.get("completion")) or not isinstance(label, bool | str):
        return None
    return {"true": True, "false": False}.get(str(label).strip().lower())


def _turns(column: str) -> Callable[[Row], list[Message]]:
    """A reader of rows with a list of turns, each with `role` and `content`, or `from` and `value`."""

    def read(row: Row) -> list[Message]:
        turns = row.get(column)
        if _is_missing(turns):
            raise _Unusable(f"`{column}` is null")
        if not isinstance(turns, list | tuple):
            raise DataError(f"`{column}` is {preview(turns)}; it must be a list of turns.")
        places = [f"turn {number} of `{column}`" for number in range(1, len(turns) + 1)]
        messages = [_turn(turn, place) for turn, place in zip(turns, places, strict=True)]
        if any(message.uses_tools for message in messages):
            messages = ordered_results(messages, [_call_ids(turn) for turn in turns], f"`{column}`")
        tools = row.get("tools")
        return messages if _is_missing(tools) else with_tools_offered(messages, read_tools(tools))

    return read


def _turn(turn: object, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{where} is {preview(turn)}; it must have `role` and `content`, or `from` and `value`.")
    keys = ("from", "value") if turn.get("from") is not None else ("role", "content")
    name = turn.get(keys[0])
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"{where} has the {keys[0]} {name!r}; known are {', '.join(_ROLES)}.")
    if role == "system" and where.split()[1] != "1":
        raise DataError(f"{where} is a system message; it can only be the first turn.")
    calls, _ = read_calls(turn["tool_calls"], where) if role == "assistant" and turn.get("tool_calls") else ((), ())
    if calls and _is_missing(turn.get(keys[1])):
        return Message(role, "", tool_calls=calls)
    if keys[1] not in turn:
        keys_found = ", ".join(f"`{key}`" for key in turn)
        raise DataError(f"{where} has no `{keys[1]}` to its `{keys[0]}`; it has {keys_found}.")
    context = _context(turn, "context") if role == "user" else None
    return Message(role, _text(turn, keys[1], f"the {role}'s "), context, tool_calls=calls)


def _call_ids(turn: Mapping[str, object]) -> Sequence[str]:
    """The ids of a turn's calls; of a result, the id of its call if it has one."""
    if calls := turn.get("tool_calls"):
        return read_calls(calls, "")[1]
    return [str(turn["tool_call_id"])] if turn.get("tool_call_id") else []


def _complete_turns(messages: list[Message]) -> tuple[Message, ...]:
    """The messages from the first question to the last answer; all of them without such a pair."""
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


FORMATS = (
    Format("messages", ("messages",), ("tools",), _turns("messages")),
    Format("ShareGPT", ("conversations",), ("tools",), _turns("conversations")),
    Format("Alpaca", ("instruction", "output"), ("input",), _instruction("output", "input")),
    Format("Dolly", ("instruction", "response"), ("context",), _instruction("response", "context")),
    Format("prompt/completion", ("prompt", "completion"), ("label",), _completion),
    Format("preferences", ("chosen", "rejected"), ("prompt",), _chosen),
)
