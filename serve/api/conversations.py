"""Stored conversations: list, search, read, rename, delete. A caller sees only conversations of its own."""

import re
from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import APIRouter, Path, Query

from serve.api.auth import Caller, CallerDep
from serve.api.errors import not_found, session_busy, store_errors
from serve.api.schemas.conversation_requests import ConversationChange
from serve.api.schemas.conversations import (
    Conversation,
    ConversationPage,
    ConversationSummary,
    Deleted,
    DeletedAll,
    DeletedMessage,
    Feedback,
    Folder,
    FolderList,
    ListedConversation,
    OpenConversation,
    Snippet,
    StoredMessage,
)
from serve.api.schemas.fields import SourceChoice
from serve.api.service import Service, ServiceDep
from serve.generation.source_selection import check_sources
from serve.middleware.cors import TypedRoute
from serve.storage.tables import ConversationRow, MessageRow

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=TypedRoute)
folders_router = APIRouter(prefix="/v1/folders", tags=["conversations"], route_class=TypedRoute)
Id = Annotated[str, Path(max_length=64)]
CHARS_BEFORE, CHARS_AFTER = 32, 96  # shown around the words that a search found: two lines of a narrow list


@router.get("")
async def list_conversations(
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before.")] = None,
    q: Annotated[str | None, Query(max_length=200, description="Words in titles or messages.")] = None,
    pinned: Annotated[bool | None, Query(description="Only pinned ones, or only others.")] = None,
    archived: Annotated[bool | None, Query(description="Only archived ones, or only others.")] = None,
    folder: Annotated[str | None, Query(max_length=60, description="Only those of this folder.")] = None,
) -> ConversationPage:
    """The caller's conversations, newest first. With `q`, only those that contain its words, each with a snippet."""
    with store_errors():
        rows, more = await service.store.page(
            caller.owner, limit=limit, after=after, query=q, pinned=pinned, archived=archived, folder=folder
        )
        matches = await service.store.newest_matches(caller.owner, [row.id for row, _ in rows], q) if q and rows else {}
    data: list[ListedConversation] = []
    for row, count in rows:
        snippet = _snippet(matches[row.id], q) if q and row.id in matches else None
        data.append(ListedConversation(**dict(_summary(row, count)), snippet=snippet))
    return ConversationPage(data=data, has_more=more)


@router.delete("")
async def delete_conversations(service: ServiceDep, caller: CallerDep) -> DeletedAll:
    """Delete all of the caller's conversations with all their messages."""
    if service.locks.is_busy(caller.owner):
        raise session_busy("An answer in one of the conversations is still under way.")
    with store_errors():
        return DeletedAll(deleted=await service.store.delete_all(caller.owner))


@router.get("/{conversation_id}")
async def read_conversation(conversation_id: Id, service: ServiceDep, caller: CallerDep) -> OpenConversation:
    """A conversation with all its messages."""
    with store_errors():
        found = await service.store.conversation(caller.owner, conversation_id)
    if found is None:
        raise not_found("conversation")
    stream = service.streams.under_way(caller.owner, conversation_id)
    conversation = as_conversation(*found)
    return OpenConversation(**dict(conversation), answering=None if stream is None else stream.name)


@router.patch("/{conversation_id}")
async def change_conversation(
    conversation_id: Id, body: ConversationChange, service: ServiceDep, caller: CallerDep
) -> OpenConversation:
    """Change a conversation's title, folder or choice of sources, pin it, archive it."""
    check_sources(service, body.search_sources)
    with store_errors():
        known = await service.store.change(caller.owner, conversation_id, body.values())
    if not known:
        raise not_found("conversation")
    return await read_conversation(conversation_id, service, caller)


@router.delete("/{conversation_id}")
async def delete_conversation(conversation_id: Id, service: ServiceDep, caller: CallerDep) -> Deleted:
    """Delete a conversation with all its messages."""
    _refuse_while_busy(service, caller, conversation_id)
    with store_errors():
        known = await service.store.delete(caller.owner, conversation_id)
    if not known:
        raise not_found("conversation")
    return Deleted(id=conversation_id)


@router.delete("/{conversation_id}/messages/{message_id}")
async def delete_message(conversation_id: Id, message_id: Id, service: ServiceDep, caller: CallerDep) -> DeletedMessage:
    """Delete one message. Its parent becomes the parent of the messages that followed it."""
    _refuse_while_busy(service, caller, conversation_id)
    with store_errors():
        known = await service.store.delete_message(caller.owner, conversation_id, message_id)
    if not known:
        raise not_found("message")
    return DeletedMessage(id=message_id)


@folders_router.get("")
async def list_folders(service: ServiceDep, caller: CallerDep) -> FolderList:
    """The caller's folders of conversations, by name."""
    with store_errors():
        found = await service.store.folders(caller.owner)
    return FolderList(data=[Folder(name=name, conversation_count=count) for name, count in found])


def _refuse_while_busy(service: Service, caller: Caller, conversation_id: str) -> None:
    if service.locks.is_busy(caller.owner, conversation_id):
        raise session_busy("An answer in this conversation is still under way.")


def as_conversation(row: ConversationRow, messages: Sequence[MessageRow]) -> Conversation:
    """The API's form of a stored conversation."""
    summary = _summary(row, len(messages))
    return Conversation(**dict(summary), messages=[_message(message) for message in messages])


def _summary(row: ConversationRow, count: int) -> ConversationSummary:
    return ConversationSummary(
        id=row.id,
        title=row.title,
        created_at=row.created_at,
        updated_at=row.updated_at,
        message_count=count,
        pinned=row.pinned,
        archived=row.archived,
        folder=row.folder,
        search_sources=cast("SourceChoice | None", row.search_sources),
    )


def _message(row: MessageRow) -> StoredMessage:
    values = {name: getattr(row, name) for name in StoredMessage.model_fields if name != "feedback"}
    if row.rating is not None:
        values["feedback"] = {name: getattr(row, name) for name in Feedback.model_fields}
    return StoredMessage.model_validate(values)


def _snippet(message: MessageRow, query: str) -> Snippet | None:
    """The passage of a message around the query; None where the message does not contain it.

    White space is collapsed. The passage is cut at words, with an ellipsis where it is cut.
    """
    text = " ".join(message.content.split())
    found = re.search(re.escape(" ".join(query.split())), text, re.IGNORECASE)
    if found is None:
        return None
    before, after = text[: found.start()], text[found.end() :]
    if len(before) > CHARS_BEFORE:
        before = "…" + (before[-CHARS_BEFORE:].partition(" ")[2] or before[-CHARS_BEFORE:])
    if len(after) > CHARS_AFTER:
        after = (after[:CHARS_AFTER].rpartition(" ")[0] or after[:CHARS_AFTER]) + "…"
    return Snippet.model_validate(
        {"message_id": message.id, "role": message.role, "before": before, "hit": found.group(), "after": after}
    )
