"""LangChain's OpenAI integration."""

from typing import Annotated

from checks import LONG, MODEL, QUESTION, base, is_city, run
from langchain_core.exceptions import ContextOverflowError
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field


def model(**fields: object) -> ChatOpenAI:
    return ChatOpenAI(base_url=base(), api_key="none", model=MODEL, max_retries=0, timeout=120, **fields)


class Place(BaseModel):
    """Where it is how warm."""

    city: Annotated[str, Field(max_length=12)]
    warm: bool


@tool
def weather(city: Annotated[str, Field(max_length=12)], warm: bool) -> str:
    """Tell the weather."""
    return f"{city}: {warm}"


def chat() -> None:
    done = model(max_tokens=8).invoke(QUESTION)
    assert done.usage_metadata and done.usage_metadata["output_tokens"] > 0


def stream() -> None:
    assert len(list(model(max_tokens=8).stream(QUESTION))) > 1


async def asynchronous() -> None:
    assert await model(max_tokens=4).ainvoke(QUESTION)


def structured() -> None:
    for method in ("json_schema", "function_calling"):
        found = model(max_tokens=90).with_structured_output(Place, method=method).invoke(QUESTION)
        assert isinstance(found, Place), method
    found = model(max_tokens=60).with_structured_output(Place, method="json_mode", include_raw=True).invoke(QUESTION)
    assert found["raw"].content.startswith("{")


def tools() -> None:
    done = model(max_tokens=90).bind_tools([weather], tool_choice="required").invoke(QUESTION)
    assert done.tool_calls and all(is_city(call["args"]) for call in done.tool_calls)


def embeddings() -> None:
    # Else it sends tokens of OpenAI's newer vocabularies, which no other model has.
    client = OpenAIEmbeddings(base_url=base(), api_key="none", model=MODEL, check_embedding_ctx_length=False)
    assert [len(each) for each in client.embed_documents(["One text", "Another"])] == [32, 32]


def responses() -> None:
    done = model(max_tokens=8, use_responses_api=True).invoke(QUESTION)
    assert done.response_metadata["id"].startswith("resp-")
    assert list(model(max_tokens=8, use_responses_api=True).stream(QUESTION))


def too_long() -> None:
    try:
        model().invoke(LONG)
    except ContextOverflowError:
        return
    raise AssertionError("it was taken")


run(chat, stream, asynchronous, structured, tools, embeddings, responses, too_long)
