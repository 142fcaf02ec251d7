"""Schemas of votes, and of the training data made from votes and ratings."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from serve.api.schemas.fields import WHOLE, NewTokens, Seed, Share, Strict, Temperature
from serve.api.schemas.responses import Time

Text = Annotated[str, Field(max_length=65536)]
Choice = Literal["a", "b", "tie"]


class Settings(Strict):
    """The sampling parameters of an answer; an absent one had the server's default."""

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
    """One of two answers, with its model and sampling parameters."""

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
    """The checkpoint that a model's name referred to at the time of the vote."""

    created_at: str
    steps: int
    base: str | None
    data: str | None


class Contender(BaseModel):
    """The model and sampling parameters of an answer."""

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
    """Votes, newest first; the last id is `after` of the next page."""

    object: Literal["list"] = "list"
    data: list[Vote]
    has_more: bool


class DeletedVote(BaseModel):
    """Confirms that a vote was deleted."""

    id: str
    object: Literal["vote.deleted"] = "vote.deleted"
    deleted: Literal[True] = True


class ShadowPair(BaseModel):
    """Two answers to a question of a conversation, in random order and without their models."""

    object: Literal["shadow_pair"] = "shadow_pair"
    id: str
    created_at: Time
    conversation: str
    prompt: list[PromptTurn]
    a: str
    b: str


class ShadowPairPage(BaseModel):
    """Pairs that wait for a vote, newest first."""

    object: Literal["list"] = "list"
    data: list[ShadowPair]
    has_more: bool


class PairVoteRequest(Strict):
    """Which of a pair's answers is better."""

    choice: Choice


class DeletedShadowPair(BaseModel):
    """Confirms that a pair was deleted."""

    id: str
    object: Literal["shadow_pair.deleted"] = "shadow_pair.deleted"
    deleted: Literal[True] = True


class DeletedFeedback(BaseModel):
    """Confirms that the feedback on an answer was withdrawn."""

    id: str = Field(description="The answer's id.")
    object: Literal["feedback.deleted"] = "feedback.deleted"
    deleted: Literal[True] = True


class ExampleTurn(BaseModel):
    """One message as training reads it; `context` holds the search results for a question."""

    role: Literal["system", "user", "assistant"]
    content: str
    context: str | None = None


class Example(BaseModel):
    """A line of /v1/training.jsonl: a conversation. Training reads `messages` and `family`."""

    messages: list[ExampleTurn]
    family: Literal["feedback"] = "feedback"
    conversation: str
    message: str = Field(description="The answer at its end.")
    model: str | None = Field(description="The model of that answer.")
    corrected: bool = Field(description="Whether a reader's correction replaces that answer.")


class Preference(BaseModel):
    """A line of /v1/preferences.jsonl: a prompt with a better and a worse answer, for preference training.

    `messages` is the prompt with the better answer, so that instruction tuning reads the file too.
    """

    origin: Literal["vote", "correction"]
    id: str
    created_at: Time
    prompt: list[ExampleTurn]
    chosen: list[ExampleTurn]
    rejected: list[ExampleTurn]
    messages: list[ExampleTurn]
    chosen_by: Contender | None = Field(description="Null: a reader's correction.")
    rejected_by: Contender
