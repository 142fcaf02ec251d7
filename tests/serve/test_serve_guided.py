"""Answers in a format: JSON of a schema, an expression, a choice; and the fields of OpenAI's that change nothing."""

import json
import re
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel

from .conftest import Running

HELLO = [{"role": "user", "content": "Who are you?"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "tags"],
    "additionalProperties": False,
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.base}/v1", api_key="none", max_retries=0)


def post(server: Running, path: str = "/v1/chat/completions", **fields: Any) -> Any:
    body = {"messages": HELLO, "max_tokens": 48, "temperature": 1.0} | fields
    if path == "/v1/completions":
        body |= {"prompt": body.pop("messages")[0]["content"]}
    response = server.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def json_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def test_a_random_models_answers_are_json_of_the_schema(server: Running) -> None:
    done = post(server, n=4, response_format=json_format(SCHEMA), logprobs=True)
    for choice in done["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
        assert choice["finish_reason"] == "stop"
        # A character may be split over two tokens, so it is their bytes that make the text.
        parts = [bytes(token["bytes"]) for token in choice["logprobs"]["content"]]
        assert b"".join(parts).decode() == choice["message"]["content"]


def test_a_streamed_answer_is_any_json_object(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=40,
        stream=True,
        response_format={"type": "json_object"},  # pyright: ignore[reportArgumentType]
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert isinstance(json.loads(text), dict)


def test_openais_parse_gives_an_object_of_the_class(client: openai.OpenAI) -> None:
    done = client.chat.completions.parse(model="tiny", messages=HELLO, max_tokens=64, response_format=Person)  # pyright: ignore[reportArgumentType]
    assert isinstance(done.choices[0].message.parsed, Person)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_vllms_names_hold_texts_too(server: Running, path: str) -> None:
    def text(**fields: Any) -> str:
        choice = post(server, path, **fields)["choices"][0]
        return choice["text"] if path == "/v1/completions" else choice["message"]["content"]

    assert text(guided_choice=["yes (sure)", "no"]) in ("yes (sure)", "no")
    assert re.fullmatch("[a-f]{3,9}", text(guided_regex="[a-f]{3,9}"))
    assert re.fullmatch(r"\d+(\+\d+)*", text(guided_grammar='start: N ("+" N)*\nN: /[0-9]+/'))
    jsonschema.validate(json.loads(text(guided_json=json.dumps(SCHEMA))), SCHEMA)


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"response_format": json_format({"type": "foo"})}, "response_format", "foo"),
        ({"response_format": json_format({"not": {"type": "string"}})}, "response_format", "not"),
        ({"response_format": json_format({"enum": ["x" * 70_000]})}, "response_format", "65536"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
        ({"response_format": {"type": "xml"}}, "response_format.type", ""),
        ({"guided_regex": "("}, "guided_regex", "guided_regex"),
        ({"guided_grammar": "start: ("}, "guided_grammar", "guided_grammar"),
        ({"guided_choice": []}, "guided_choice", ""),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice", "at once"),
        ({"min_tokens": 99}, "min_tokens", "48"),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.2}, "repeat_penalty", "repetition_penalty"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "alpaca"),
        ({"tool_choice": "required"}, "tool_choice", "tools"),
    ],
)
def test_what_cannot_be_held_is_a_400_that_says_why(
    server: Running, fields: dict[str, Any], param: str, sentence: str
) -> None:
    response = server.client.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 48} | fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert sentence in error["message"]


def test_an_answer_that_continues_a_message_cannot_be_held_to_a_format(server: Running) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "I am"}]
    body = {"messages": messages, "response_format": {"type": "json_object"}}
    response = server.client.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


def test_fields_that_change_nothing_are_taken(server: Running) -> None:
    plain = post(server, seed=5)["choices"][0]["message"]["content"]
    messages = [HELLO[0] | {"id": "m1", "reasoning_content": None}]
    more = {"tools": [], "tool_choice": "none", "functions": [], "reasoning_effort": "low", "verbosity": "low",
            "store": True, "metadata": {"a": "b"}, "user": "me", "response_format": {"type": "text"}}  # fmt: skip
    assert post(server, seed=5, messages=messages, **more)["choices"][0]["message"]["content"] == plain
    silent = [*HELLO, {"role": "assistant", "content": None, "tool_calls": []}, {"role": "user", "content": "And?"}]
    assert post(server, messages=silent)["choices"]
    nothing = server.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": None}]})
    assert nothing.json()["error"]["param"] == "messages.0.content"
    assert post(server, "/v1/completions", best_of=1)["choices"]


def test_load_tools_fields_are_honoured(server: Running) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        end = {"50256": 100.0}
        assert post(server, path, logit_bias=end)["usage"]["completion_tokens"] == 1
        assert post(server, path, logit_bias=end, ignore_eos=True)["usage"]["completion_tokens"] == 48
        assert post(server, path, logit_bias=end, min_tokens=7)["usage"]["completion_tokens"] == 8
    alias = [post(server, temperature=0, **{name: 1.3})["choices"] for name in ("repeat_penalty", "repetition_penalty")]
    assert alias[0] == alias[1]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_continuous_usage_counts_the_tokens_so_far(server: Running, path: str) -> None:
    body = {"messages": HELLO} if path.startswith("/v1/chat") else {"prompt": "Hello"}
    body |= {"max_tokens": 5, "ignore_eos": True, "stream": True}
    body |= {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    with server.client.stream("POST", path, json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    counts = [json.loads(line)["usage"]["completion_tokens"] for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == 5


def test_a_prompt_that_is_too_long_is_told_as_openai_does(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 12000}])
    assert caught.value.code == "context_length_exceeded"
    assert re.search(r"maximum context length is \d+ tokens", caught.value.message)
