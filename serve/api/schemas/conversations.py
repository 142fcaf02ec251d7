"""Stored conversations as the server shows them, as types."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.api.schemas.responses import Sources, Time, Timing, Usage


class Feedback(BaseModel):
    """What a reader thought of an answer."""

    rating: Literal[1, -1]
    comment: str | None = None
    correction: str | None = None


class StoredMessage(BaseModel):
    """One message of a stored conversation."""

    id: str
    parent_id: str | None
    role: Literal["system", "user", "assistant"]
    content: str
    created_at: Time
    model: str | None = None
    finish_reason: str | None = Field(None, description="stop, length, cancelled or error")
    sources: Sources | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    feedback: Feedback | None = None


class ConversationSummary(BaseModel):
    """A conversation in a list."""

    id: str
    title: str
    created_at: Time
    updated_at: Time
    message_count: int


class Snippet(BaseModel):
    """The passage that a search found: the words, and what stands around them; `…` where it is cut."""

    message_id: str
    role: Literal["user", "assistant"]
    before: str
    hit: str
    after: str


class ListedConversation(ConversationSummary):
    """A conversation in a list that was perhaps searched for."""

    snippet: Snippet | None = Field(None, description="With `q`: where it was found; null: in the title alone.")


class Conversation(ConversationSummary):
    """A whole conversation."""

    messages: list[StoredMessage]


class ConversationPage(BaseModel):
    """Conversations, newest first; `after` takes the last id to go on."""

    object: Literal["list"] = "list"
    data: list[ListedConversation]
    has_more: bool


class Deleted(BaseModel):
    """Something is gone."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


class DeletedAll(BaseModel):
    """All of a caller's conversations are gone."""

    object: Literal["conversations.deleted"] = "conversations.deleted"
    deleted: int = Field(description="How many there were.")


class DeletedMessage(BaseModel):
    """One message of a conversation is gone."""

    id: str
    object: Literal["conversation.message.deleted"] = "conversation.message.deleted"
    deleted: Literal[True] = True


class Imported(BaseModel):
    """How many conversations were imported, and how many existed already."""

    imported: int
    skipped: int
