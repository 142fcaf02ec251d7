"""Instructor over OpenAI's client."""

from typing import Annotated, Any

import instructor
import openai
from checks import MODEL, QUESTION, base, run
from pydantic import BaseModel, Field


class Place(BaseModel):
    """Where it is how warm."""

    city: Annotated[str, Field(max_length=12)]
    warm: bool


def extract(mode: instructor.Mode) -> None:
    client = instructor.from_openai(openai.OpenAI(base_url=base(), api_key="none", timeout=120), mode=mode)
    request: Any = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_retries": 0}
    assert isinstance(client.create(**request, max_tokens=90, response_model=Place), Place)


def structured() -> None:
    extract(instructor.Mode.JSON_SCHEMA)


def structured_tools() -> None:
    extract(instructor.Mode.TOOLS)


def structured_strict_tools() -> None:
    extract(instructor.Mode.TOOLS_STRICT)


run(structured, structured_tools, structured_strict_tools)
