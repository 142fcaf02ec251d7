"""Schemas of the training examples that an answer came from."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from serve.api.schemas.requests import ChatMessage, Strict


class ExplainRequest(Strict):
    """A stored answer, or messages that end with one."""

    model: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="A served checkpoint; null: the one that gave the stored answer, or the default."
    )
    conversation: Annotated[str, Field(max_length=64)] | None = None
    message: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="One of the conversation's answers; null: the last one."
    )
    messages: Annotated[list[ChatMessage], Field(min_length=2, max_length=256)] | None = None
    count: int = Field(10, ge=1, le=100)

    @model_validator(mode="after")
    def _check_answer(self) -> "ExplainRequest":
        if (self.conversation is None) == (self.messages is None):
            raise PydanticCustomError("answer", "needs either conversation or messages")
        if self.message is not None and self.conversation is None:
            raise PydanticCustomError("answer", "message belongs to a conversation")
        if self.messages is not None and self.messages[-1].role != "assistant":
            raise PydanticCustomError("answer", "messages must end with the assistant's answer")
        return self


class Influence(BaseModel):
    """A training example; of another person's judgement only its kind is known, and no text."""

    score: float = Field(description="The cosine of its gradient with the answer's, -1 to 1.")
    kind: str = Field(description="example, or the judgement: correction, approval, rejection, siblings or compare.")
    yours: bool = Field(description="It is the caller's own judgement.")
    prompt: str | None
    answer: str | None
    rejected: str | None = Field(description="Of a pair: the worse answer.")
    family: str | None


class Explanation(BaseModel):
    """The training examples that pulled most towards an answer, by falling score."""

    object: Literal["explanation"] = "explanation"
    checkpoint: str
    parameters: str = Field(description="What the gradients are of.")
    training_examples: int
    examples_compared: int = Field(description="Fewer where the index holds a random sample.")
    data: list[Influence]
