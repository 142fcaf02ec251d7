"""Schemas of responses and server-sent events."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, computed_field

from resonance.retrieval.reasons import ProblemCode, ReasonCode


def rfc3339(moment: datetime) -> str:
    """A time in UTC in RFC 3339's format, with milliseconds."""
    if moment.tzinfo is None:  # SQLite stores no time zone; all times are stored in UTC
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]


class Usage(BaseModel):
    """OpenAI's token counts, and how many messages of the conversation are in the prompt."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    messages_kept: int | None = None
    messages_dropped: int | None = None


class Timing(BaseModel):
    """How fast an answer was generated, as the server measured it."""

    first_token_s: Annotated[float, Field(ge=0, description="Seconds from the request to the first token.")]
    tokens_per_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="After the first token; absent for an answer of one token."
    )


class Alternative(BaseModel):
    """A token with its natural log-probability and its bytes."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative):
    """A sampled token, and the likeliest tokens at its position."""

    top_logprobs: list[Alternative]


class Logprobs(BaseModel):
    """One entry for each token of the answer."""

    content: list[TokenLogprob] | None
    refusal: None = None


class Source(BaseModel):
    """A search result in the prompt; citations refer to its `id`."""

    model_config = ConfigDict(extra="allow")

    id: int
    title: str
    url: str
    site: str | None = None
    passage: str | None = None
    score: float | None = None
    kind: Literal["web", "document"] | None = Field(None, description="Where it was found.")


class Sentence(BaseModel):
    """One sentence of an answer: its range in Unicode characters, the ids it cites, the sources that support it."""

    text: str
    start: int
    end: int
    cited: list[int]
    sources: list[int] = Field(description="Sources whose passages support the sentence, best first.")

    @computed_field(description="Whether there is such a source.")
    @property
    def matched(self) -> bool:
        """Whether a source supports the sentence."""
        return bool(self.sources)


class Citations(BaseModel):
    """The sentences of an answer that each source supports: the data of `event: citations` at the end of a stream."""

    index: int = Field(0, description="Of the answer, when there are several (n).")
    supports: dict[int, list[int]] = Field(description="By source id, the sentences (from 0) that it supports.")
    sentences: list[Sentence]


class SearchReason(BaseModel):
    """Why there was a search, or none, as a code that programs can compare."""

    code: ReasonCode
    subject: str | None = Field(None, description="The name or the word of the message that decided.")
    follows: bool = Field(False, description="The message only goes on from one that the code is about.")


class SearchProblem(BaseModel):
    """Why sources are missing, old or from one of two searches alone, as a code that programs can compare."""

    code: ProblemCode
    age_s: float | None = Field(None, description="Age in seconds of the cached results that were used instead.")
    answered: str | None = Field(None, description="The provider that did answer, where another one failed.")


class Sources(BaseModel):
    """The results of a search; `note` is a sentence for the reader when it failed in part, `problem` its code.

    A stream's `event: sources` comes before the answer, so it has neither `supports` nor `sentences`. These are about
    the first answer.
    """

    query: str
    provider: str
    sources: list[Source]
    reason: str | None = Field(None, description="Why there was a search.")
    why: SearchReason | None = Field(None, description="The reason as a code.")
    note: str | None = None
    problem: SearchProblem | None = Field(None, description="What the note says, as a code.")
    supports: dict[int, list[int]] | None = Field(
        None, description="By source id, the answer's sentences (from 0) that it supports."
    )
    sentences: list[Sentence] | None = None


class NotSearched(BaseModel):
    """Why the server decided not to search: the data of a stream's `event: search`, before the answer."""

    searched: Literal[False] = False
    reason: str
    why: SearchReason | None = Field(None, description="The reason as a code.")


class FunctionCall(BaseModel):
    """A called function; `arguments` is JSON as a text."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    arguments: str


class ToolCallMessage(BaseModel):
    """A call of a function."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class AnswerMessage(BaseModel):
    """The assistant's message; `content` is null where it only calls functions."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallMessage] | None = Field(None, exclude_if=lambda calls: calls is None)


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    """OpenAI's chat completion. With `session_id`, `id` is the stored answer's id."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    sources: Sources | None = None
    session_id: str | None = None


class CompletionLogprobs(BaseModel):
    """OpenAI's older format: parallel lists, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One continuation of one prompt."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """OpenAI's raw completion."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class Embedding(BaseModel):
    """The embedding of one text: its numbers, or base64 of their bytes as little-endian 32-bit floats."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """The tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """OpenAI's list of embeddings, in the order of the texts."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


class RunPlace(BaseModel):
    """The training run of a checkpoint: its folder on the server, and its page at the experiment tracker."""

    folder: str
    url: str | None


class SamplingDefaults(BaseModel):
    """The server's sampling parameters for chats that name none."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float


class Evidence(BaseModel):
    """What one check of the gate, or somebody else, says for a checkpoint."""

    name: str
    sentence: str


class Promotion(BaseModel):
    """How a checkpoint came into service, by the log of its alias."""

    alias: str
    at: Time
    back: bool = Field(description="Whether the alias went back to it.")
    verified: bool = Field(description="Whether `resonance verify` held before.")
    lineage: list[str] = Field(description="The runs that it was trained from, the nearest first.")
    judgements: int | None = Field(description="How many it was trained on; null where it learned from none.")
    evidence: list[Evidence]


class ModelCard(BaseModel):
    """The metadata of a served checkpoint."""

    checkpoint: str = Field(description="The run's name, where the model's id is an alias of it.")
    template: str
    parameters: int
    context_length: int
    trained_length: int | None = Field(
        description="Tokens of the longest training conversation: a prompt keeps older turns up to this length."
    )
    base: str | None
    data: str | None
    steps: int
    tokens_seen: int
    scores: dict[str, Any]
    families: list[str] = Field(description="Families of tasks by score, best first.")
    run: RunPlace | None = Field(description="Null for a base model.")
    created_at: str | None
    promotion: Promotion | None = Field(default=None, description="Null for a checkpoint that no alias names.")
    sampling: SamplingDefaults


class Model(BaseModel):
    """OpenAI's model object with fields of our own."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "resonance"
    resonance: ModelCard


class ModelList(BaseModel):
    """Every served checkpoint."""

    object: Literal["list"] = "list"
    data: list[Model]


class HealthModel(BaseModel):
    """The model of requests that name none."""

    id: str
    checkpoint: str = Field(description="The run's name, where the id is an alias of it.")
    parameters: int
    context_length: int
    device: str
    dtype: str
    notes: list[str]  # what the engine lacks on this machine and what it uses instead, such as torch for C++ kernels


class HealthSearch(BaseModel):
    """Whether search is enabled, and its provider."""

    enabled: bool
    provider: str | None
    sources: list[Literal["web", "documents"]] = Field([], description="What it searches.")


class HealthLimits(BaseModel):
    """What requests may have, as figures."""

    message_chars: int = Field(description="Characters of a message; a longer one is refused as message_too_long.")


class Health(BaseModel):
    """The server's state."""

    status: Literal["ok", "loading", "down"]
    version: str
    model: HealthModel
    search: HealthSearch
    limits: HealthLimits
    uptime_s: float


class DeletedModel(BaseModel):
    """Confirms that a checkpoint was unloaded."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


class PromptToken(BaseModel):
    """One token of a prompt; bytes that are invalid UTF-8 by themselves become U+FFFD."""

    id: int
    text: str


class PromptSize(BaseModel):
    """Whether a message fits into the window, in tokens."""

    message_tokens: int = Field(description="Of the newest message's text alone.")
    prompt_tokens: int = Field(description="Of the system prompt and the newest message in the model's template.")
    room: int = Field(description="For a prompt, beside the answer.")
    answer_tokens: int = Field(description="Kept for the answer.")
    context_length: int
    fits: bool


class StoppedAnswer(BaseModel):
    """Confirms that an answer is written no more."""

    id: str
    object: Literal["chat.completion.stopped"] = "chat.completion.stopped"
    stopped: Literal[True] = True


class RenderedPrompt(BaseModel):
    """The prompt of a chat request, as the model would read it."""

    text: str
    token_ids: list[int]
    tokens: list[PromptToken]
    prompt_tokens: int
    messages_kept: int
    messages_dropped: int
    context_length: int
    sources: Sources | None = None
