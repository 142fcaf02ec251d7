"""Schemas of stored conversations."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.api.schemas.fields import SourceChoice
from serve.api.schemas.responses import Sources, Time, Timing, ToolCallMessage, Usage


class Feedback(BaseModel):
    """A reader's rating of an answer."""

    rating: Literal[1, -1]
    comment: str | None = None
    correction: str | None = None


class StoredMessage(BaseModel):
    """One message of a stored conversation."""

    id: str
    parent_id: str | None
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    created_at: Time
    model: str | None = None
    finish_reason: str | None = Field(None, description="stop, length, tool_calls, cancelled or error")
    sources: Sources | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    feedback: Feedback | None = None
    tool_calls: list[ToolCallMessage] | None = Field(None, description="The functions that an answer called.")
    tool_call_id: str | None = Field(None, description="The call whose result a tool's message is.")


class ConversationSummary(BaseModel):
    """A conversation in a list."""

    id: str
    title: str
    created_at: Time
    updated_at: Time
    message_count: int
    pinned: bool = False
    archived: bool = False
    folder: str | None = None
    search_sources: SourceChoice | None = Field(
        None, description="Where sources of its answers may come from; null: as the server is configured."
    )


class Folder(BaseModel):
    """A folder of conversations."""

    name: str
    conversation_count: int


class FolderList(BaseModel):
    """The caller's folders, by name."""

    object: Literal["list"] = "list"
    data: list[Folder]


class Snippet(BaseModel):
    """The passage that a search found: the words and the text around them; `…` where it is cut."""

    message_id: str
    role: Literal["user", "assistant", "tool"]
    before: str
    hit: str
    after: str


class ListedConversation(ConversationSummary):
    """A conversation in a list or among search results."""

    snippet: Snippet | None = Field(None, description="With `q`: the passage; null: only the title matches.")


class Conversation(ConversationSummary):
    """A conversation with its messages."""

    messages: list[StoredMessage]


class OpenConversation(Conversation):
    """A conversation as it stands, where one may be answering in it."""

    answering: str | None = Field(
        None, description="The answer that is being written; `GET /v1/chat/stream/{answer_id}` follows it."
    )


class ConversationPage(BaseModel):
    """Conversations, newest first; the last id is `after` of the next page."""

    object: Literal["list"] = "list"
    data: list[ListedConversation]
    has_more: bool


class Deleted(BaseModel):
    """Confirms that a conversation was deleted."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


class DeletedAll(BaseModel):
    """Confirms that all of a caller's conversations were deleted."""

    object: Literal["conversations.deleted"] = "conversations.deleted"
    deleted: int = Field(description="How many there were.")


class DeletedMessage(BaseModel):
    """Confirms that a message was deleted."""

    id: str
    object: Literal["conversation.message.deleted"] = "conversation.message.deleted"
    deleted: Literal[True] = True


class Imported(BaseModel):
    """How many conversations were imported, and how many existed already."""

    imported: int
    skipped: int
