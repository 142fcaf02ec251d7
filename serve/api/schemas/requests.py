"""What requests may say: OpenAI's fields, ours on top, and those of OpenAI's that are refused by name.

Types are strict and ranges are checked, so that nothing past this file meets a value it cannot use.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A request's object: no unknown fields, no guessing of types, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _refuse(value: Any) -> None:
    if value is not None:
        raise PydanticCustomError("unsupported", "is not supported")


Unsupported = Annotated[None, BeforeValidator(_refuse), WithJsonSchema({"type": "null"})]
"""A field of OpenAI's that makes no sense for this model: only its absence or null is taken."""


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 1.0 is as whole as 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)  # stands behind the bounds, so that the schema has them

Text = Annotated[str, Field(min_length=0)]  # any bound lets pydantic refuse half a character, as JSON can say it
SessionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,6}$")]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
NewTokens = Annotated[int, Field(ge=1, le=1_000_000), WHOLE]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63), WHOLE]  # bounds that a double can say
TokenId = Annotated[int, Field(ge=0, lt=2**31), WHOLE]


class TextPart(Strict):
    """A piece of a message's content; text is the only kind that GPT-2 reads."""

    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """One message. `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = Field(None, max_length=64, description="Taken and not used: the model does not see names.")
    refusal: Unsupported = None
    audio: Unsupported = None
    function_call: Unsupported = None
    tool_calls: Unsupported = None
    tool_call_id: Unsupported = None
    annotations: list[Any] | None = Field(None, max_length=0)

    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Strict):
    """What a stream says besides its text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class TextFormat(Strict):
    """The only format of answers there is."""

    type: Literal["text"]


class SearchQuery(Strict):
    """What to search for, instead of what the conversation makes of it."""

    query: Annotated[str, Field(min_length=1, max_length=500)]


class SamplingFields(Strict):
    """What chat and raw completions have in common."""

    model: str | None = Field(None, max_length=200, description="A name of /v1/models; the first when absent.")
    max_tokens: NewTokens | None = None
    temperature: Temperature | None = Field(None, description="0 takes the likeliest token.")
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[TokenKey, Bias] | None = Field(None, max_length=1024)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1, le=16), WHOLE] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=512, description="Taken and not used.")
    metadata: dict[Text, Text] | None = Field(None, max_length=16, description="Taken and not used.")

    def stops(self) -> tuple[str, ...]:
        """The stop strings, however they were given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(SamplingFields):
    """OpenAI's chat completion request, and ours on top."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)] = Field(
        description="The newest last; an assistant's message at the end is how the answer begins, and it goes on there."
    )
    max_completion_tokens: NewTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    session_id: SessionId | None = Field(None, description="Append to this conversation and store the reply.")
    parent_id: str | None = Field(
        None, max_length=64, description="The stored message that these follow; absent: the newest, null: none."
    )
    search: bool | SearchQuery | None = Field(
        None, description="Look for sources first, perhaps with this query; absent: where the server finds it worth it."
    )
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    parallel_tool_calls: bool | None = Field(None, description="Taken and not used: there are no tools.")
    safety_identifier: str | None = Field(None, max_length=512, description="Taken and not used.")
    prompt_cache_key: str | None = Field(None, max_length=512, description="Taken and not used.")
    prompt_cache_retention: Unsupported = None
    tools: Unsupported = None
    tool_choice: Unsupported = None
    functions: Unsupported = None
    function_call: Unsupported = None
    audio: Unsupported = None
    prediction: Unsupported = None
    reasoning_effort: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None


Prompt = (
    Text
    | Annotated[list[TokenId], Field(min_length=1)]
    | Annotated[list[Text], Field(min_length=1, max_length=64)]
    | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=64)]
)


class CompletionRequest(SamplingFields):
    """OpenAI's raw completion request: text or token ids go on as they stand."""

    prompt: Prompt
    # 0, unlike in a chat, asks for the prompt's own log-probabilities; pyright minds that the base has other bounds.
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    echo: bool | None = None
    best_of: Unsupported = None
    suffix: Unsupported = None


class Rename(Strict):
    """A conversation's new title."""

    title: Annotated[str, Field(min_length=1, max_length=200)]


class LoadRequest(Strict):
    """The checkpoint to load."""

    checkpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")] = Field(
        description="latest, best, a run's name or a base model's name."
    )


class FeedbackRequest(Strict):
    """What a reader thinks of an answer; `correction` is the answer that should have been given."""

    rating: Literal[1, -1]
    comment: Annotated[str, Field(max_length=4000)] | None = None
    correction: Annotated[str, Field(max_length=65536)] | None = None
