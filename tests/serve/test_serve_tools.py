"""Functions that a model may call: requests, answers, streams, stored conversations and what is refused."""

import json
from typing import Any

import jsonschema
import openai
import pytest

from .conftest import Running

HELLO: list[Any] = [{"role": "user", "content": "Is it warm in Bonn?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "hot": {"type": "boolean"}},
    "required": ["city", "hot"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}
TIME: Any = {"type": "function", "function": {"name": "time", "description": "The time."}}
CALL = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
CALL_2 = CALL | {"id": "c2"}


@pytest.fixture(scope="module")
def client(tools_server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{tools_server.base}/v1", api_key="none", max_retries=0)


def post(server: Running, **fields: Any) -> Any:
    body = {"messages": HELLO, "max_tokens": 90, "temperature": 1.0, "tools": [WEATHER, TIME]} | fields
    response = server.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def prompt(server: Running, **fields: Any) -> str:
    response = server.client.post("/v1/chat/prompt", json={"messages": HELLO} | fields)
    assert response.status_code == 200, response.text
    return response.json()["text"]


def is_valid(call: Any) -> bool:
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "weather":
        jsonschema.validate(arguments, PARAMETERS)
        return True
    return (call["function"]["name"], arguments) == ("time", {})


def test_required_calls_are_valid_and_have_ids(tools_server: Running) -> None:
    done = post(tools_server, n=4, tool_choice="required", logprobs=True)
    for choice in done["choices"]:
        calls = choice["message"]["tool_calls"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        assert all(is_valid(call) and call["id"].startswith("call_") for call in calls)
        assert len({call["id"] for call in calls}) == len(calls)
    done = post(tools_server, n=4, tool_choice="required", parallel_tool_calls=False)
    assert [len(choice["message"]["tool_calls"]) for choice in done["choices"]] == [1] * 4


def test_a_named_function_is_called_once(tools_server: Running) -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    calls = post(tools_server, tool_choice=named)["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather"]
    assert is_valid(calls[0])


def test_auto_leaves_the_text_free_and_none_leaves_the_tools_out(tools_server: Running) -> None:
    choice = post(tools_server, max_tokens=12)["choices"][0]
    assert (choice["finish_reason"], "tool_calls" in choice["message"]) == ("length", False)
    assert '<tools>\n{"name": "weather"' in prompt(tools_server, tools=[WEATHER])
    assert "<tools>" not in prompt(tools_server, tools=[WEATHER], tool_choice="none")


def test_a_streamed_call_has_its_id_and_name_first_and_its_arguments_in_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="caller", messages=HELLO, tools=[WEATHER], tool_choice="required", max_tokens=60, stream=True
    )
    calls: dict[int, list[Any]] = {}
    reasons: list[str] = []
    for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or []:
            calls.setdefault(delta.index, []).append(delta)
        assert not chunk.choices[0].delta.content
        reasons += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
    assert reasons == ["tool_calls"]
    for first, *others in calls.values():
        assert (first.id[:5], first.type, first.function.name, first.function.arguments) == (
            "call_", "function", "weather", ""
        )  # fmt: skip
        assert len(others) > 3
        assert all(other.id is None and other.function.name is None for other in others)
        jsonschema.validate(json.loads("".join(other.function.arguments for other in others)), PARAMETERS)


def test_calls_and_results_are_in_the_prompt_results_in_the_calls_order(tools_server: Running) -> None:
    history = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL_2]},
        {"role": "tool", "tool_call_id": "c2", "content": "second"},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "first"}]},
    ]
    text = prompt(tools_server, messages=history, tools=[TIME])
    called = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
    first, second = (f"<|im_start|>tool\n<tool_response>\n{result}\n</tool_response><|im_end|>\n"
                     for result in ("first", "second"))  # fmt: skip
    assert text.endswith(f"assistant\n{called}\n{called}<|im_end|>\n{first}{second}<|im_start|>assistant\n")
    assert post(tools_server, messages=history, tools=[TIME])["choices"]


def test_calls_and_results_are_stored_and_follow_each_other(tools_server: Running) -> None:
    call = post(tools_server, session_id="tools", tool_choice="required", parallel_tool_calls=False)
    [made] = call["choices"][0]["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": made["id"], "content": "31 degrees"}
    body = {"session_id": "tools", "tools": [WEATHER, TIME], "messages": [result]}
    assert f"{made['function']['arguments']}}}\n</tool_call><|im_end|>\n<|im_start|>tool" in prompt(
        tools_server, **body
    )
    post(tools_server, **body, max_tokens=4)
    stored = tools_server.client.get("/v1/conversations/tools").json()["messages"]
    assert [message["role"] for message in stored] == ["user", "assistant", "tool", "assistant"]
    assert (stored[1]["tool_calls"], stored[1]["finish_reason"]) == ([made], "tool_calls")
    assert (stored[2]["tool_call_id"], stored[2]["content"]) == (made["id"], "31 degrees")
    found = tools_server.client.get("/v1/conversations?q=degrees").json()["data"]
    assert found[0]["snippet"]["role"] == "tool"
    exported = tools_server.client.get("/v1/conversations.jsonl").text
    tools_server.client.delete("/v1/conversations/tools")
    lines = {"Content-Type": "application/jsonl"}
    assert tools_server.client.post("/v1/conversations.jsonl", content=exported, headers=lines).json()["imported"]
    assert tools_server.client.get("/v1/conversations/tools").json()["messages"] == stored
    assert tools_server.client.get("/v1/training.jsonl?which=all").status_code == 200


def test_an_answer_in_a_format_or_a_call(tools_server: Running) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema | {"additionalProperties": False}}}
    for choice in post(tools_server, n=4, response_format=format)["choices"]:
        calls = choice["message"].get("tool_calls")
        assert (
            all(map(is_valid, calls))
            if calls
            else jsonschema.validate(json.loads(choice["message"]["content"]), schema) is None
        )


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"model": "tiny", "tools": [TIME]}, "tools", "chat template of this model (alpaca) cannot express tools"),
        ({"model": "tiny", "messages": [*HELLO, {"role": "assistant", "tool_calls": [CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "1"}]}, "messages", "alpaca"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "not among"),
        ({"tools": [TIME], "tool_choice": "always"}, "tool_choice", ""),
        ({"tools": [TIME, TIME]}, "tools", "one name"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type", ""),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", ""),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]},
         "tools.0.function.parameters", "type object"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"not": {}}}}]},
         "tools.0.function.parameters", "not"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"enum": ["x" * 70_000]}}}]},
         "tools", "65536"),
        ({"tools": [TIME], "guided_regex": "a"}, "guided_regex", "guided_regex"),
        ({"tools": [TIME], "messages": [*HELLO, {"role": "assistant", "content": "I"}]}, "messages", "nor call tools"),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": "c9", "content": "1"}]}, "messages.1.tool_call_id",
         "tool_calls have its"),
        ({"messages": [*HELLO, {"role": "tool", "content": "1"}]}, "messages.1", "tool_call_id"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [CALL]}]}, "messages.0", "assistant"),
        ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [CALL]}]}, "messages", "last message"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_a_400_that_says_why(
    tools_server: Running, fields: dict[str, Any], param: str, sentence: str
) -> None:
    response = tools_server.client.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 8} | fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["param"], sentence in error["message"]) == (param, True), error
