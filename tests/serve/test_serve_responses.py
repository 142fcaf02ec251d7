"""OpenAI's Responses API: text in and out, typed events, stored responses and what is refused."""

import json
from typing import Any

import jsonschema
import openai
import pytest

from .conftest import Running

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(tools_server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{tools_server.base}/v1", api_key="none", max_retries=0)


def test_a_stream_has_openais_events_and_the_whole_text(client: openai.OpenAI) -> None:
    kinds: list[str] = []
    text = ""
    stream: Any = client.responses.create(model="tiny", input="Hello", max_output_tokens=8, stream=True)
    for event in stream:
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type in ("response.completed", "response.incomplete"):
            assert (event.response.output_text, event.sequence_number) == (text, len(kinds) - 1)
            assert event.response.usage is not None
    order = [kind for i, kind in enumerate(kinds) if not i or kinds[i - 1] != kind]
    assert order[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"
    ]  # fmt: skip
    assert order[4:8] == [
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done",
    ]  # fmt: skip
    assert order[8:] in (["response.completed"], ["response.incomplete"])


def test_a_response_follows_a_stored_one_and_is_read_and_deleted(tools_server: Running, client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="One", instructions="Be brief.", max_output_tokens=4)
    given: Any = [{"role": "user", "content": [{"type": "input_text", "text": "Two"}]}]
    second = client.responses.create(
        model="tiny", input=given, previous_response_id=first.id, max_output_tokens=4, store=True
    )
    read = client.responses.retrieve(second.id)
    assert (read.output_text, read.previous_response_id) == (second.output_text, first.id)
    [conversation] = [
        found for found in tools_server.client.get("/v1/conversations").json()["data"] if found["title"] == "One"
    ]
    path = f"/v1/conversations/{conversation['id']}"
    contents = [message["content"] for message in tools_server.client.get(path).json()["messages"]]
    assert contents == ["Be brief.", "One", first.output_text, "Two", second.output_text]
    branch = client.responses.create(
        model="tiny", input="x", previous_response_id=first.id, store=False, max_output_tokens=4
    )
    assert first.usage and branch.usage
    assert branch.usage.input_tokens > first.usage.input_tokens
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(branch.id)
    client.responses.delete(second.id)
    left = [message["content"] for message in tools_server.client.get(path).json()["messages"]]
    assert left == ["Be brief.", "One", first.output_text]
    client.responses.delete(first.id)
    assert tools_server.client.get(path).status_code == 404


def test_a_response_is_json_of_the_schema(client: openai.OpenAI) -> None:
    format: Any = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}}
    done = client.responses.create(model="tiny", input="Is it?", text=format, max_output_tokens=40, store=False)
    jsonschema.validate(json.loads(done.output_text), SCHEMA)
    assert done.status == "completed"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "disabled"}, "truncation"),
        ({"previous_response_id": "resp-0"}, "previous_response_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format"),
        ({"messages": []}, "messages"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(tools_server: Running, fields: dict[str, Any], param: str) -> None:
    response = tools_server.client.post("/v1/responses", json={"model": "tiny", "input": "Hi"} | fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
