"""What readers' judgements look like on the wire: votes, and the training data that votes and feedback make."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from serve.api.schemas.requests import WHOLE, NewTokens, Seed, Share, Strict, Temperature
from serve.api.schemas.responses import Time

Text = Annotated[str, Field(max_length=65536)]
Choice = Literal["a", "b", "tie"]


class Settings(Strict):
    """How an answer was sampled; what is not said was as the server is set up."""

    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    max_tokens: NewTokens | None = None
    seed: Seed | None = None


class PromptTurn(Strict):
    """One message of a prompt that both sides answered."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Candidate(Strict):
    """One of two answers, and how it came about."""

    model: Annotated[str, Field(max_length=200)]
    settings: Settings = Settings()
    content: Text


class VoteRequest(Strict):
    """Which of two answers to the same prompt is better."""

    prompt: Annotated[list[PromptTurn], Field(min_length=1, max_length=256)]
    a: Candidate
    b: Candidate
    choice: Choice


class CheckpointNote(BaseModel):
    """Which weights a model's name stood for when the vote was given."""

    created_at: str
    steps: int
    base: str | None
    data: str | None


class Contender(BaseModel):
    """Who wrote an answer, and how."""

    model: str | None
    checkpoint: CheckpointNote | None = None
    settings: Settings | None = None


class VotedAnswer(Contender):
    """One side of a vote."""

    content: str


class Vote(BaseModel):
    """A stored vote."""

    object: Literal["vote"] = "vote"
    id: str
    created_at: Time
    prompt: list[PromptTurn]
    a: VotedAnswer
    b: VotedAnswer
    choice: Choice


class VotePage(BaseModel):
    """Votes, newest first; `after` takes the last id to go on."""

    object: Literal["list"] = "list"
    data: list[Vote]
    has_more: bool


class DeletedVote(BaseModel):
    """A vote is taken back."""

    id: str
    object: Literal["vote.deleted"] = "vote.deleted"
    deleted: Literal[True] = True


class ExampleTurn(BaseModel):
    """One message as training reads it; `context` is what the search had found for a question."""

    role: Literal["system", "user", "assistant"]
    content: str
    context: str | None = None


class Example(BaseModel):
    """A line of /v1/training.jsonl: a conversation to learn from. Training reads `messages` and `family`."""

    messages: list[ExampleTurn]
    family: Literal["feedback"] = "feedback"
    conversation: str
    message: str = Field(description="The answer at its end.")
    model: str | None = Field(description="Who wrote that answer.")
    corrected: bool = Field(description="Whether a reader's correction stands in that answer's place.")


class Preference(BaseModel):
    """A line of /v1/preferences.jsonl: a prompt with a better and a worse answer, as preference training reads them.

    `messages` is the prompt with the better answer, so that instruction tuning reads the file too.
    """

    origin: Literal["vote", "correction"]
    id: str
    created_at: Time
    prompt: list[ExampleTurn]
    chosen: list[ExampleTurn]
    rejected: list[ExampleTurn]
    messages: list[ExampleTurn]
    chosen_by: Contender | None = Field(description="Null: the reader.")
    rejected_by: Contender
