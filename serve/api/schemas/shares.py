"""Schemas of shared conversations."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.api.schemas.responses import Sources, Time


class Share(BaseModel):
    """A shared conversation, as its owner sees it; whoever has the id may read it."""

    id: str
    object: Literal["share"] = "share"
    conversation_id: str
    title: str
    created_at: Time
    expires_at: Time
    path: str = Field(description="Of the page that shows it, on this server.")


class ShareList(BaseModel):
    """The caller's valid shares, newest first."""

    object: Literal["list"] = "list"
    data: list[Share]


class DeletedShare(BaseModel):
    """Confirms that a share was revoked."""

    id: str
    object: Literal["share.deleted"] = "share.deleted"
    deleted: Literal[True] = True


class SharedMessage(BaseModel):
    """A message of a shared conversation."""

    role: Literal["user", "assistant"]
    content: str
    model: str | None = None
    sources: Sources | None = None


class SharedConversation(BaseModel):
    """What everybody sees who has the link: nothing of the owner, of system prompts, or of the owner's documents."""

    object: Literal["shared_conversation"] = "shared_conversation"
    title: str
    created_at: Time
    expires_at: Time
    messages: list[SharedMessage]
