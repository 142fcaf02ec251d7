"""Reads calls of functions and their results in rows of data, in OpenAI's shape.

A row has `messages` whose assistant turns may have `tool_calls`, each with a name and arguments, whose results are
turns of the role `tool`; and it may have `tools`, the functions that the conversation offers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from data import DataError
from data.files import preview
from resonance.chat_template import Message
from resonance.tool_calling import ToolCall, ToolError, tool_json


def read_calls(calls: object, where: str) -> tuple[tuple[ToolCall, ...], tuple[str, ...]]:
    """The calls of an assistant's turn, and their ids; "" for one without an id.

    Each is OpenAI's object with a `function`, or that function alone: `name`, and `arguments` as a JSON object or its
    text. Raises DataError, which begins with `where`.
    """
    calls = _parsed(calls, f"{where} has the `tool_calls`")
    if not isinstance(calls, list | tuple):
        raise DataError(f"{where} has the `tool_calls` {preview(calls)}; they must be a list of calls.")
    read: list[ToolCall] = []
    ids: list[str] = []
    for number, call in enumerate(calls, start=1):
        place = f"call {number} of {where}"
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(call, Mapping) or not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise DataError(f"{place} is {preview(call)}; it must have a function with `name` and `arguments`.")
        try:
            read.append(ToolCall(inner["name"], _arguments(inner.get("arguments"), place)))
        except ToolError as error:
            raise DataError(f"{place}: {error}") from None
        ids.append(str(call.get("id") or ""))
    return tuple(read), tuple(ids)


def read_tools(tools: object) -> tuple[str, ...]:
    """The functions of a row's `tools`: a list, or its JSON text, of functions as OpenAI writes them."""
    tools = _parsed(tools, "`tools` is")
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"`tools` is {preview(tools)}; it must be a list of functions.")
    try:
        return tuple(tool_json(_function(tool)) for tool in tools)
    except ToolError as error:
        raise DataError(f"`tools`: {error}") from None


def with_tools_offered(messages: list[Message], tools: tuple[str, ...]) -> list[Message]:
    """The conversation with functions in its system message, which is made where there is none."""
    if not tools:
        return messages
    if messages and messages[0].role == "system":
        return [replace(messages[0], tools=tools), *messages[1:]]
    return [Message("system", "", tools=tools), *messages]


def ordered_results(messages: Sequence[Message], ids: Sequence[Sequence[str]], where: str) -> list[Message]:
    """The conversation with each call's result in the order of the calls.

    `ids` has the ids of each message's calls; of a result, the id of the call that it answers, if it has one. Raises
    DataError for a result without a call before it.
    """
    ordered: list[Message] = []
    results: list[tuple[int, Message]] = []  # since the last call, each with its call's number
    open_ids: Sequence[str] = ()
    for number, (message, own) in enumerate(zip(messages, ids, strict=True), start=1):
        if message.role != "tool":
            ordered += [result for _, result in sorted(results, key=lambda pair: pair[0])]
            ordered.append(message)
            results, open_ids = [], own
            continue
        place = len(results)
        if own and own[0] and any(open_ids):
            if own[0] not in open_ids:
                raise DataError(f"turn {number} of {where} answers the call {own[0]!r}, which the turn before has not.")
            place = list(open_ids).index(own[0])
        if len(results) >= len(open_ids):
            raise DataError(
                f"turn {number} of {where} is the result of a call, and the assistant's turn before has "
                f"{f'only {len(open_ids)}' if open_ids else 'none'}; give each result its call in `tool_calls`."
            )
        results.append((place, message))
    return [*ordered, *(result for _, result in sorted(results, key=lambda pair: pair[0]))]


def _function(tool: Mapping[str, object]) -> Mapping[str, object]:
    function = _without_nulls(tool)
    assert isinstance(function, Mapping)
    return function


def _without_nulls(value: object) -> object:
    """A JSON value without the null fields that tables put where other rows have something."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list | tuple) else value


def _arguments(arguments: object, where: str) -> str:
    """The arguments as the text of a JSON object; a text is kept as it is."""
    if arguments is None:
        return "{}"
    if isinstance(arguments, str):
        if not isinstance(_parsed(arguments, f"{where}: `arguments` is"), Mapping):
            raise DataError(f"{where}: `arguments` is {preview(arguments)}; it must be a JSON object.")
        return arguments.strip()
    if not isinstance(arguments, Mapping):
        raise DataError(f"{where}: `arguments` is {preview(arguments)}; it must be a JSON object.")
    return json.dumps(_without_nulls(arguments), ensure_ascii=False)


def _parsed(value: object, where: str) -> object:
    """The value of a JSON text; what is no text as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise DataError(f"{where} {preview(value)}, which is no JSON.") from None
