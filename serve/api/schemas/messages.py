"""Schemas of a chat's messages and of the tools that it may call."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve.api.schemas.fields import FunctionName, Strict, Text, Unsupported


class TextPart(Strict):
    """A part of a message's content; GPT-2 reads text only."""

    type: Literal["text"]
    text: Text


class CalledFunction(BaseModel):
    """The function of a call; `arguments` is JSON as a text."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: FunctionName
    arguments: Text


class MessageToolCall(BaseModel):
    """A call in an assistant's message of the history; fields that are not listed here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=64)]
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(BaseModel):
    """One message. `developer` is the same as `system`; fields that are not listed here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(min_length=1)] | None = Field(
        None, description="May be null in an assistant's message only.", validate_default=True
    )
    name: str | None = Field(None, max_length=64, description="Ignored: the model does not see names.")
    refusal: Unsupported = None
    audio: Unsupported = None
    function_call: Unsupported = None
    tool_calls: Annotated[list[MessageToolCall], Field(max_length=128)] | None = Field(
        None, description="The functions that an assistant's message called."
    )
    tool_call_id: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="The call whose result a message of the role tool is."
    )
    annotations: list[Any] | None = Field(None, max_length=0)

    @field_validator("content")
    @classmethod
    def _check_content(cls, content: Any, info: ValidationInfo) -> Any:
        if content is None and info.data.get("role") not in (None, "assistant"):
            raise PydanticCustomError("missing", "is missing")
        return content

    @model_validator(mode="after")
    def _check_tools(self) -> "ChatMessage":
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise PydanticCustomError("tool", "tool_call_id belongs to the role tool, which needs it")
        if self.tool_calls and self.role != "assistant":
            raise PydanticCustomError("tool", "tool_calls belong to the role assistant")
        return self

    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or ())


class FunctionTool(Strict):
    """A function that the model may call. Its arguments are always held to all of the schema, `strict` or not."""

    name: FunctionName
    description: Annotated[str, Field(max_length=4000)] | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of an object; absent: no parameters.")
    strict: bool | None = None

    def described(self) -> dict[str, Any]:
        """What the prompt says of the function."""
        return self.model_dump(include={"name", "description", "parameters"}, exclude_none=True)


class Tool(Strict):
    """A tool: a function."""

    type: Literal["function"]
    function: FunctionTool


class NamedFunction(Strict):
    """A function by its name."""

    name: FunctionName


class NamedTool(Strict):
    """The function that the answer must call."""

    type: Literal["function"]
    function: NamedFunction
