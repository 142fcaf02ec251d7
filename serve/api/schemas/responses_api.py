"""Schemas of OpenAI's Responses API: text in and out."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from serve.api.schemas.fields import NewTokens, NoneOf, Share, Strict, Temperature, Text, Unsupported

FormatName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class InputText(BaseModel):
    """A part of an input message: text; fields that are not listed here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    type: Literal["input_text", "output_text", "text"]
    text: Text


class InputMessage(BaseModel):
    """A message of the input, or an answer that a client sends back; fields that are not listed here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[InputText], Field(min_length=1)]

    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class OutputFormat(Strict):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: FormatName | None = None
    description: Annotated[str, Field(max_length=4000)] | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> "OutputFormat":
        if (self.schema_ is not None) != (self.type == "json_schema"):
            raise PydanticCustomError("schema", "schema belongs to the type json_schema, which needs it")
        return self


class TextOptions(Strict):
    """The format of the answer's text."""

    format: OutputFormat | None = None
    verbosity: Annotated[str, Field(max_length=32)] | None = Field(None, description="Ignored.")


class ResponseStreamOptions(Strict):
    """What a stream contains besides the text."""

    include_obfuscation: Literal[False] | None = None


class ResponseRequest(Strict):
    """OpenAI's request for a response."""

    input: Text | Annotated[list[InputMessage], Field(min_length=1)]
    model: str | None = Field(None, max_length=200, description="A name of /v1/models; the first when absent.")
    instructions: Text | None = Field(None, description="The system prompt, also of the responses that follow.")
    max_output_tokens: NewTokens | None = None
    temperature: Temperature | None = Field(None, description="0: greedy decoding.")
    top_p: Share | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = Field(None, description="Absent: true. A stored response belongs to a conversation.")
    previous_response_id: str | None = Field(None, max_length=64, description="The stored response to go on from.")
    text: TextOptions | None = None
    metadata: dict[Text, Text] | None = Field(None, max_length=16, description="Ignored.")
    user: str | None = Field(None, max_length=512, description="Ignored.")
    safety_identifier: str | None = Field(None, max_length=512, description="Ignored.")
    prompt_cache_key: str | None = Field(None, max_length=512, description="Ignored.")
    reasoning: dict[str, Any] | None = Field(None, description="Ignored.")
    parallel_tool_calls: bool | None = Field(None, description="Ignored: there are no tools here.")
    service_tier: Literal["auto", "default"] | None = None
    truncation: Literal["auto"] | None = Field(None, description="Old turns that do not fit are always left out.")
    background: Literal[False] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    tools: NoneOf = None
    include: NoneOf = None
    top_logprobs: Literal[0] | None = None
    max_tool_calls: Unsupported = None
    conversation: Unsupported = None
    prompt: Unsupported = None
    prompt_cache_retention: Unsupported = None


class OutputText(BaseModel):
    """The text of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(BaseModel):
    """An answer."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class CachedTokens(BaseModel):
    """Tokens of the input that were read from a cache: not counted here."""

    cached_tokens: int = 0


class ReasoningTokens(BaseModel):
    """Tokens of reasoning: there is none."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """The token counts of a response."""

    input_tokens: int
    input_tokens_details: CachedTokens = CachedTokens()
    output_tokens: int
    output_tokens_details: ReasoningTokens = ReasoningTokens()
    total_tokens: int


class IncompleteDetails(BaseModel):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseObject(BaseModel):
    """OpenAI's response. What is not stored is null in a response that is read again."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]
    background: Literal[False] = False
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    model: str
    output: list[OutputMessage]
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    store: bool = True
    temperature: float | None = None
    text: dict[str, Any] = {"format": {"type": "text"}}
    tool_choice: Literal["auto"] = "auto"
    tools: list[Any] = []
    top_p: float | None = None
    truncation: Literal["auto"] = "auto"
    usage: ResponseUsage | None = None


class DeletedResponse(BaseModel):
    """Confirms that a response was deleted."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
