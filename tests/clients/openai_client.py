"""OpenAI's Python client."""

import json
from typing import Annotated, Any

import openai
from checks import CITY, LONG, MODEL, QUESTION, base, is_city, run
from pydantic import BaseModel, Field

client = openai.OpenAI(base_url=base(), api_key="none", max_retries=0, timeout=120)
HELLO: Any = [{"role": "user", "content": QUESTION}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": CITY, "strict": True}}


class Place(BaseModel):
    """Where it is how warm."""

    city: Annotated[str, Field(max_length=12)]
    warm: bool


def chat() -> None:
    done = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, n=2, logprobs=True)
    assert len(done.choices) == 2 and done.usage and done.usage.completion_tokens > 0


def stream() -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, stream=True))
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


async def asynchronous() -> None:
    async with openai.AsyncOpenAI(base_url=base(), api_key="none", max_retries=0) as other:
        done = await other.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4)
        assert done.choices[0].finish_reason


def structured() -> None:
    done = client.chat.completions.parse(model=MODEL, messages=HELLO, max_tokens=60, response_format=Place)
    assert isinstance(done.choices[0].message.parsed, Place)


def tools() -> None:
    done = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=90, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    [call] = done.choices[0].message.tool_calls or []
    assert call.type == "function" and is_city(json.loads(call.function.arguments))
    with client.chat.completions.stream(
        model=MODEL, messages=HELLO, max_tokens=90, tools=[TOOL], tool_choice="required"
    ) as events:
        assert events.get_final_completion().choices[0].message.tool_calls


def embeddings() -> None:
    done = client.embeddings.create(model=MODEL, input=["One text", "Another"])
    assert [len(each.embedding) for each in done.data] == [32, 32]


def responses() -> None:
    first = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=8, instructions="Be brief.")
    second = client.responses.create(
        model=MODEL, input="And in Ulm?", max_output_tokens=8, previous_response_id=first.id
    )
    assert client.responses.retrieve(second.id).previous_response_id == first.id
    parsed = client.responses.parse(model=MODEL, input=QUESTION, max_output_tokens=60, text_format=Place)
    assert isinstance(parsed.output_parsed, Place)
    with client.responses.stream(model=MODEL, input=QUESTION, max_output_tokens=8) as events:
        kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    client.responses.delete(second.id)


def too_long() -> None:
    try:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": LONG}])
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded"
    else:
        raise AssertionError("it was taken")


run(chat, stream, asynchronous, structured, tools, embeddings, responses, too_long)
