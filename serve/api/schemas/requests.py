"""Schemas of requests for an answer: OpenAI's fields, our own, and those of OpenAI's that are refused by name."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve.api.schemas.fields import (
    WHOLE,
    Bias,
    NewTokens,
    NoneOf,
    Penalty,
    Seed,
    SessionId,
    Share,
    SourceChoice,
    Stop,
    Strict,
    Temperature,
    Text,
    TokenId,
    TokenKey,
    Unsupported,
)
from serve.api.schemas.messages import ChatMessage, NamedTool, Tool


class StreamOptions(Strict):
    """What a stream contains besides the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = Field(None, description="Every chunk has the token counts so far.")
    include_obfuscation: Literal[False] | None = None


class JsonSchemaFormat(Strict):
    """A JSON schema by name. The answer is always held to all of it, `strict` or not."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[str, Field(max_length=4000)] | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = Field(None, description="For the type json_schema.")

    @model_validator(mode="after")
    def _check_schema(self) -> "ResponseFormat":
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise PydanticCustomError("schema", "json_schema belongs to the type json_schema, which needs it")
        return self


class SearchQuery(Strict):
    """A search query that replaces the one made from the conversation, and where to search."""

    query: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    sources: Annotated[list[Literal["web", "documents"]], Field(min_length=1, max_length=2)] | None = Field(
        None, description="Search these alone; absent: all that the server has."
    )
    when: Literal["auto", "always"] = Field(
        "always", description="auto: without a query, the server decides whether to search."
    )

    @model_validator(mode="after")
    def _check_content(self) -> "SearchQuery":
        if self.query is None and self.sources is None:
            raise PydanticCustomError("search", "search needs a query or sources; true searches everywhere")
        return self


class SamplingFields(Strict):
    """The fields that chat and raw completions share."""

    model: str | None = Field(None, max_length=200, description="A name of /v1/models; the first when absent.")
    max_tokens: NewTokens | None = None
    temperature: Temperature | None = Field(None, description="0: greedy decoding.")
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = Field(
        None, description="llama.cpp's name of repetition_penalty."
    )
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[TokenKey, Bias] | None = Field(None, max_length=1024)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1, le=16), WHOLE] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = Field(None, description="Generate max_tokens tokens: no end token ends the text.")
    min_tokens: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = Field(
        None, description="No end token before so many."
    )
    guided_json: dict[str, Any] | Annotated[str, Field(max_length=65536)] | None = Field(
        None, description="A JSON schema that the text matches, as in vLLM."
    )
    guided_regex: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, description="A regular expression that the whole text matches."
    )
    guided_choice: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(min_length=1, max_length=256)]
        | None
    ) = Field(None, description="The text is one of these.")
    guided_grammar: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        None, description="A context-free grammar of the text, in llguidance's variant of Lark."
    )
    user: str | None = Field(None, max_length=512, description="Ignored.")
    metadata: dict[Text, Text] | None = Field(None, max_length=16, description="Ignored.")

    def stops(self) -> tuple[str, ...]:
        """The stop strings as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(SamplingFields):
    """OpenAI's chat completion request with fields of our own."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)] = Field(
        description="The newest last. The answer continues an assistant's message at the end."
    )
    max_completion_tokens: NewTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    session_id: SessionId | None = Field(None, description="Append to this conversation and store the reply.")
    parent_id: str | None = Field(
        None, max_length=64, description="The stored message that these follow; absent: the newest, null: none."
    )
    search: bool | SearchQuery | None = Field(
        None,
        description="Search for sources first, with this query and in these sources where they are given; absent: the "
        "server decides.",
    )
    documents: bool | None = Field(
        None,
        description="Draw on the caller's documents: the library's and the conversation's; absent: with a session_id.",
    )
    search_sources: SourceChoice | None = Field(
        None,
        description="Where sources may come from; absent: as stored with the conversation, else everywhere. With the "
        "first message of a conversation it is stored with it.",
    )
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: bool | None = Field(None, description="Ignored: answers are stored where there is a session_id.")
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call an answer.")
    safety_identifier: str | None = Field(None, max_length=512, description="Ignored.")
    prompt_cache_key: str | None = Field(None, max_length=512, description="Ignored.")
    prompt_cache_retention: Unsupported = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = Field(
        None, description="Functions that the answer may call; needs a model whose template has tools (chatml)."
    )
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = Field(
        None, description="Whether the answer may, must or must not call; or the function that it must call."
    )
    functions: NoneOf = None
    function_call: Literal["none"] | None = None
    audio: Unsupported = None
    prediction: Unsupported = None
    reasoning_effort: Annotated[str, Field(max_length=32)] | None = Field(None, description="Ignored.")
    verbosity: Annotated[str, Field(max_length=32)] | None = Field(None, description="Ignored.")
    web_search_options: Unsupported = None


Prompt = (
    Text
    | Annotated[list[TokenId], Field(min_length=1)]
    | Annotated[list[Text], Field(min_length=1, max_length=64)]
    | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=64)]
)


class CompletionRequest(SamplingFields):
    """OpenAI's raw completion request: the model continues text or token ids without a chat template."""

    prompt: Prompt
    # Unlike in a chat, 0 is valid: it returns the prompt's log-probabilities. Pyright minds the base's other bounds.
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    echo: bool | None = None
    best_of: Annotated[Literal[1], WHOLE] | None = None
    suffix: Unsupported = None


class EmbeddingRequest(Strict):
    """OpenAI's embedding request."""

    input: (
        Text
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Text], Field(min_length=1, max_length=2048)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=2048)]
    ) = Field(description="One text or several, or their token ids.")
    model: str | None = Field(None, max_length=200, description="A name of /v1/models; the first when absent.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: the bytes of little-endian 32-bit floats."
    )
    dimensions: Unsupported = None
    user: str | None = Field(None, max_length=512, description="Ignored.")
