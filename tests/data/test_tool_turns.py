"""Rows with calls of functions and their results: what is read, what is supervised, what is refused."""

import json
from typing import Any

import pytest

from data import DataError
from data.example import Example
from data.formats import read_rows
from data.tokenize import IGNORE, tokenize
from resonance.chat_template import ChatTemplate

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def call(city: str, call_id: str, **changes: object) -> dict[str, object]:
    function = {"name": "weather", "arguments": json.dumps({"city": city}), **changes}
    return {"id": call_id, "type": "function", "function": function}


MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Is it warm in Rome and Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [call("Rome", "a"), call("Oslo", "b")]},
    {"role": "tool", "tool_call_id": "b", "content": "-3 degrees"},
    {"role": "tool", "tool_call_id": "a", "content": "21 degrees"},
    {"role": "assistant", "content": "In Rome, not in Oslo."},
]


def read(row: dict[str, Any]) -> Example:
    found: list[Example] = []
    read_rows([row], list(row), "rows.jsonl", found.append)
    (example,) = found
    return example


def changed(turn: int, **changes: object) -> dict[str, Any]:
    messages = [dict(message) for message in MESSAGES]
    messages[turn] |= changes
    return {"messages": messages}


def test_calls_and_answers_are_supervised_and_results_and_functions_are_not() -> None:
    template = ChatTemplate.named("chatml")
    example = read({"messages": MESSAGES, "tools": [WEATHER]})
    tokens = tokenize([example], template, 1024)
    supervised = template.tokenizer.decode(tokens.labels[tokens.labels != IGNORE].tolist())
    assert supervised == (
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'
        "In Rome, not in Oslo.<|im_end|>"
    )
    text = template.tokenizer.decode(tokens.input_ids.tolist())
    assert text.startswith("<|im_start|>system\n# Tools") and '{"name": "weather", "parameters": {' in text
    assert text.index("<tool_response>\n21 degrees") < text.index("<tool_response>\n-3 degrees")  # in the calls' order
    assert template.parse(template.render(example.messages).input_ids) == list(example.messages)


def test_the_same_conversation_in_other_shapes_is_the_same_example() -> None:
    expected = read({"messages": MESSAGES, "tools": [WEATHER]})
    bare = [{"name": "weather", "arguments": {"city": city, "unit": None}} for city in ("Rome", "Oslo")]
    messages = [
        MESSAGES[0],
        {"role": "assistant", "tool_calls": bare},
        {"role": "function", "content": "21 degrees"},
        {"role": "observation", "content": "-3 degrees"},
        MESSAGES[4],
    ]
    assert read({"messages": messages, "tools": json.dumps([WEATHER["function"]])}) == expected
    assert Example.from_json(expected.to_json(), None) == expected


def test_a_conversation_that_ends_with_a_call_answers_with_it() -> None:
    assert read({"messages": MESSAGES[:3]}).answer.startswith("<tool_call>\n")


def test_rows_without_functions_keep_their_fingerprints() -> None:
    example = read({"messages": [MESSAGES[0], MESSAGES[4]], "tools": None})
    assert example.to_json() == (
        b'[null,[["user","Is it warm in Rome and Oslo?",null],["assistant","In Rome, not in Oslo.",null]]]'
    )


def test_a_template_without_functions_refuses_the_row_by_its_number() -> None:
    with pytest.raises(DataError, match=r"Row 1 does not fit the alpaca template: .*chatml"):
        tokenize([read({"messages": MESSAGES})], ChatTemplate.named("alpaca"), 1024)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (changed(1, tool_calls="[{"), "row 1: turn 2 of `messages` has the `tool_calls` '[{', which is no JSON."),
        (changed(1, tool_calls=7), "turn 2 of `messages` has the `tool_calls` 7; they must be a list of calls."),
        (
            changed(1, tool_calls=[{"id": "a"}]),
            "call 1 of turn 2 of `messages` is {'id': 'a'}; it must have a function",
        ),
        (changed(1, tool_calls=[call("x", "a", name="no name")]), "call 1 of turn 2 of `messages`: A function's name"),
        (changed(1, tool_calls=[call("x", "a", arguments="[1]")]), "`arguments` is '[1]'; it must be a JSON object."),
        (changed(1, tool_calls=[call("x", "a", arguments="{")]), "`arguments` is '{', which is no JSON."),
        (
            changed(1, tool_calls=[call("x", "b")]),
            "turn 4 of `messages` answers the call 'a', which the turn before has",
        ),
        (
            changed(1, content="Hm.", tool_calls=None),
            "turn 3 of `messages` is the result of a call, and the assistant's",
        ),
        ({"messages": MESSAGES, "tools": "weather"}, "row 1: `tools` is 'weather', which is no JSON."),
        ({"messages": MESSAGES, "tools": [{"description": "?"}]}, "row 1: `tools`: A function's name"),
        ({"messages": MESSAGES, "tools": ["weather"]}, "`tools` is ['weather']; it must be a list of functions."),
    ],
)
def test_what_is_no_call_or_result_is_refused_with_row_and_turn(row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        read(row)
    assert sentence in str(refused.value)
