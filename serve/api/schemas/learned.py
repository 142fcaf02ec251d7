"""Schemas of what checkpoints learned from a caller's judgements."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.api.schemas.responses import Time

Kind = Literal["correction", "approval", "rejection", "vote"]


class GateCheck(BaseModel):
    """One piece of evidence for a checkpoint, as `resonance improve` found it."""

    name: str
    passed: bool
    sentence: str


class ChangedAnswer(BaseModel):
    """A question of the caller's that training did not see, answered by the checkpoint before and by this one."""

    question: str
    expected: str = Field(description="What the caller said is right.")
    before: str
    after: str
    before_right: bool
    after_right: bool


class LearnedCheckpoint(BaseModel):
    """A checkpoint that was trained on judgements."""

    checkpoint: str
    trained_from: str
    trained_at: Time
    state: Literal["in_service", "replaced", "not_promoted"] = Field(
        description="Whether an alias names it, named it before, or never did."
    )
    judgements: int = Field(description="The examples, pairs and thumbs of all owners that it was trained on.")
    yours: int = Field(description="How many of the caller's judgements it was trained on.")
    checks: list[GateCheck]
    answers: list[ChangedAnswer] = Field(description="The caller's held-out questions, those that changed first.")


class InCheckpoint(BaseModel):
    """What a checkpoint has of a judgement."""

    checkpoint: str
    use: Literal["trained", "measured", "inherited"] = Field(
        description="trained: it was trained on it; measured: it was held out, to measure the checkpoint; inherited: "
        "it was trained from a checkpoint that was trained on it."
    )


class LearnedJudgement(BaseModel):
    """One judgement of the caller's, and the checkpoints that have something of it."""

    id: str = Field(description="Of the answer or of the vote.")
    conversation: str | None = Field(description="Null for a vote.")
    kind: Kind
    at: Time
    question: str
    answer: str = Field(description="What the caller said is right, or preferred; of a rejection, the answer.")
    withdrawn: bool = Field(description="No later training uses it.")
    checkpoints: list[InCheckpoint]


class Learned(BaseModel):
    """What checkpoints learned from the caller's judgements."""

    object: Literal["learned"] = "learned"
    checkpoints: list[LearnedCheckpoint] = Field(description="Newest first.")
    withdrawn: list[LearnedJudgement] = Field(
        description="Judgements that were withdrawn or changed, and that checkpoints still have."
    )
    data: list[LearnedJudgement] = Field(description="The judgements that are stored, newest first.")
    has_more: bool = Field(description="Whether there are more; the last id of `data` is `after` of the next page.")
