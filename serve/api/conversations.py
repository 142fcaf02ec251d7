"""Stored conversations: list, find, read, rename, delete, rate. Each caller has their own; others' do not exist."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Query

from serve.api.auth import Caller, CallerDep
from serve.api.errors import ApiError, quota_exceeded, session_busy, store_unavailable
from serve.api.schemas.conversations import (
    Conversation,
    ConversationPage,
    ConversationSummary,
    Deleted,
    DeletedAll,
    DeletedMessage,
    Feedback,
    ListedConversation,
    StoredMessage,
)
from serve.api.schemas.requests import FeedbackRequest, Rename
from serve.api.service import Service, ServiceDep
from serve.middleware.content_type import TypedRoute
from serve.storage.errors import StoreUnavailable
from serve.storage.quota import QuotaExceeded
from serve.storage.session_locks import SessionBusy
from serve.storage.snippets import snippet_of
from serve.storage.tables import ConversationRow, MessageRow

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=TypedRoute)
Id = Annotated[str, Path(max_length=64)]


@contextmanager
def stored() -> Generator[None]:
    """Say in HTTP when the database does not answer, or does not take what is to be stored."""
    try:
        yield
    except StoreUnavailable as error:
        raise store_unavailable(error) from error
    except QuotaExceeded as error:
        raise quota_exceeded(error) from error
    except SessionBusy as error:
        raise session_busy("An answer in this conversation is still under way.") from error


def missing(what: str) -> ApiError:
    """The refusal for what the caller does not have."""
    return ApiError(404, f"There is no such {what}.", code="not_found")


@router.get("")
async def list_conversations(
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before.")] = None,
    q: Annotated[str | None, Query(max_length=200, description="Words in titles or messages.")] = None,
) -> ConversationPage:
    """The caller's conversations, newest first; those with the words of `q`, and where these stand."""
    with stored():
        rows, more = await service.store.page(caller.owner, limit=limit, after=after, query=q)
        found = await service.store.found(caller.owner, [row.id for row, _ in rows], q) if q and rows else {}
    data: list[ListedConversation] = []
    for row, count in rows:
        snippet = snippet_of(found[row.id], q) if q and row.id in found else None
        data.append(ListedConversation(**dict(_summary(row, count)), snippet=snippet))
    return ConversationPage(data=data, has_more=more)


@router.delete("")
async def delete_conversations(service: ServiceDep, caller: CallerDep) -> DeletedAll:
    """Delete all of the caller's conversations with all their messages."""
    if any(owner == caller.owner for owner, _ in service.busy_sessions):
        raise session_busy("An answer in one of the conversations is still under way.")
    with stored():
        return DeletedAll(deleted=await service.store.delete_all(caller.owner))


@router.get("/{conversation_id}")
async def read_conversation(conversation_id: Id, service: ServiceDep, caller: CallerDep) -> Conversation:
    """A whole conversation."""
    with stored():
        found = await service.store.conversation(caller.owner, conversation_id)
    if found is None:
        raise missing("conversation")
    return shown(*found)


@router.patch("/{conversation_id}")
async def rename_conversation(
    conversation_id: Id, body: Rename, service: ServiceDep, caller: CallerDep
) -> Conversation:
    """Give a conversation another title."""
    with stored():
        known = await service.store.rename(caller.owner, conversation_id, body.title)
    if not known:
        raise missing("conversation")
    return await read_conversation(conversation_id, service, caller)


@router.delete("/{conversation_id}")
async def delete_conversation(conversation_id: Id, service: ServiceDep, caller: CallerDep) -> Deleted:
    """Delete a conversation with all its messages."""
    _refuse_while_busy(service, caller, conversation_id)
    with stored():
        known = await service.store.delete(caller.owner, conversation_id)
    if not known:
        raise missing("conversation")
    return Deleted(id=conversation_id)


@router.delete("/{conversation_id}/messages/{message_id}")
async def delete_message(conversation_id: Id, message_id: Id, service: ServiceDep, caller: CallerDep) -> DeletedMessage:
    """Delete one message; those that followed it follow the message before it."""
    _refuse_while_busy(service, caller, conversation_id)
    with stored():
        known = await service.store.delete_message(caller.owner, conversation_id, message_id)
    if not known:
        raise missing("message")
    return DeletedMessage(id=message_id)


@router.put("/{conversation_id}/messages/{message_id}/feedback")
async def rate_message(
    conversation_id: Id, message_id: Id, body: FeedbackRequest, service: ServiceDep, caller: CallerDep
) -> Feedback:
    """Say what you think of an answer; saying it again replaces it."""
    with stored():
        known = await service.store.rate(
            caller.owner, conversation_id, message_id, body.rating, body.comment, body.correction
        )
    if not known:
        raise missing("answer")
    return Feedback(rating=body.rating, comment=body.comment, correction=body.correction)


def _refuse_while_busy(service: Service, caller: Caller, conversation_id: str) -> None:
    if (caller.owner, conversation_id) in service.busy_sessions:
        raise session_busy("An answer in this conversation is still under way.")


def shown(row: ConversationRow, messages: Sequence[MessageRow]) -> Conversation:
    """A stored conversation as the API shows it."""
    summary = _summary(row, len(messages))
    return Conversation(**dict(summary), messages=[_message(message) for message in messages])


def _summary(row: ConversationRow, count: int) -> ConversationSummary:
    return ConversationSummary(
        id=row.id, title=row.title, created_at=row.created_at, updated_at=row.updated_at, message_count=count
    )


def _message(row: MessageRow) -> StoredMessage:
    feedback = None
    if row.rating is not None:
        feedback = Feedback.model_validate({"rating": row.rating, "comment": row.comment, "correction": row.correction})
    return StoredMessage.model_validate(
        {
            "id": row.id,
            "parent_id": row.parent_id,
            "role": row.role,
            "content": row.content,
            "created_at": row.created_at,
            "model": row.model,
            "finish_reason": row.finish_reason,
            "sources": row.sources,
            "usage": row.usage,
            "timing": row.timing,
            "feedback": feedback,
        }
    )
