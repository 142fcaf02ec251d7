"""LiteLLM, as a library."""

import json
import os
from typing import Annotated, Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it fetches a list of prices otherwise

import litellm
from checks import CITY, LONG, MODEL, QUESTION, base, is_city, run
from pydantic import BaseModel, Field

SERVER: Any = {"api_base": base(), "api_key": "none", "timeout": 120}
CHAT: Any = SERVER | {"model": f"openai/{MODEL}", "messages": [{"role": "user", "content": QUESTION}]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


class Place(BaseModel):
    """Where it is how warm."""

    city: Annotated[str, Field(max_length=12)]
    warm: bool


def chat() -> None:
    assert litellm.completion(**CHAT, max_tokens=8).usage.completion_tokens > 0


def stream() -> None:
    assert list(litellm.completion(**CHAT, max_tokens=8, stream=True))


async def asynchronous() -> None:
    assert (await litellm.acompletion(**CHAT, max_tokens=8)).choices


def structured() -> None:
    done = litellm.completion(**CHAT, max_tokens=60, response_format=Place)
    Place.model_validate_json(done.choices[0].message.content)


def tools() -> None:
    done = litellm.completion(**CHAT, max_tokens=90, tools=[TOOL], tool_choice="required")
    assert all(is_city(json.loads(call.function.arguments)) for call in done.choices[0].message.tool_calls)


def embeddings() -> None:
    done = litellm.embedding(model=f"openai/{MODEL}", input=["One text", "Another"], **SERVER)
    assert [len(each["embedding"]) for each in done.data] == [32, 32]


def responses() -> None:
    done = litellm.responses(model=f"openai/{MODEL}", input=QUESTION, max_output_tokens=8, **SERVER)
    assert done.output


def too_long() -> None:
    try:
        litellm.completion(**CHAT | {"messages": [{"role": "user", "content": LONG}]})
    except litellm.ContextWindowExceededError:
        return
    raise AssertionError("it was taken")


run(chat, stream, asynchronous, structured, tools, embeddings, responses, too_long)
