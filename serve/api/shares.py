"""Sharing a conversation: a read-only copy of its shown messages, for whoever has the link, until it expires."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from serve.api.auth import CallerDep
from serve.api.errors import ApiError, not_found, store_errors
from serve.api.schemas.conversation_requests import ShareRequest
from serve.api.schemas.shares import DeletedShare, Share, SharedConversation, SharedMessage, ShareList
from serve.api.service import ServiceDep
from serve.middleware.cors import TypedRoute
from serve.storage import shares
from serve.storage.shares import TooManyShares
from serve.storage.tables import MessageRow, ShareRow

router = APIRouter(prefix="/v1", tags=["shares"], route_class=TypedRoute)
public_router = APIRouter(prefix="/v1/shared", tags=["shares"], route_class=TypedRoute)
Id = Annotated[str, Path(max_length=64)]
OWN_DOCUMENT = "/d/"  # what the addresses of owners' documents begin with


@router.post("/conversations/{conversation_id}/shares")
async def share_conversation(conversation_id: Id, body: ShareRequest, service: ServiceDep, caller: CallerDep) -> Share:
    """Share a conversation as it is now. Later messages are not in it; a second share is another link."""
    limits = service.settings.shares
    if body.expires_in_days > limits.max_days:
        raise ApiError(
            400,
            f"A link lasts at most {limits.max_days} days here (shares.max_days).",
            param="expires_in_days",
            code="invalid_value",
        )
    with store_errors():
        found = await service.store.conversation(caller.owner, conversation_id)
    if found is None:
        raise not_found("conversation")
    conversation, rows = found
    messages = _shown(rows, body.message_id)
    if not messages:
        raise not_found("message")
    now = datetime.now(UTC)
    row = ShareRow(
        id=secrets.token_urlsafe(24),
        owner=caller.owner,
        conversation_id=conversation_id,
        title=conversation.title,
        messages=messages,
        created_at=now,
        expires_at=now + timedelta(days=body.expires_in_days),
    )
    with store_errors():
        try:
            await shares.add_share(service.store, row, max_count=limits.max_count)
        except TooManyShares as error:
            raise ApiError(
                413, f"You may share {limits.max_count} conversations; revoke one first.", code="too_many_shares"
            ) from error
    return as_share(row)


@router.get("/shares")
async def list_shares(service: ServiceDep, caller: CallerDep) -> ShareList:
    """The caller's valid shares, newest first."""
    with store_errors():
        rows = await shares.shares(service.store, caller.owner)
    return ShareList(data=[as_share(row) for row in rows])


@router.delete("/shares/{share_id}")
async def revoke_share(share_id: Id, service: ServiceDep, caller: CallerDep) -> DeletedShare:
    """Revoke a share: its link leads nowhere from now on."""
    with store_errors():
        known = await shares.delete_share(service.store, caller.owner, share_id)
    if not known:
        raise not_found("share")
    return DeletedShare(id=share_id)


@public_router.get("/{share_id}")
async def read_shared(share_id: Id, service: ServiceDep, response: Response) -> SharedConversation:
    """A shared conversation, for whoever has its id; no key is needed."""
    response.headers["Cache-Control"] = "no-store"  # a revoked link must not live on in a cache
    response.headers["X-Robots-Tag"] = "noindex"
    with store_errors():
        row = await shares.shared(service.store, share_id)
    if row is None:
        raise not_found("shared conversation")
    return SharedConversation(
        title=row.title,
        created_at=row.created_at,
        expires_at=row.expires_at,
        messages=[SharedMessage.model_validate(message) for message in row.messages],
    )


def as_share(row: ShareRow) -> Share:
    """The API's form of a share."""
    return Share(
        id=row.id,
        conversation_id=row.conversation_id,
        title=row.title,
        created_at=row.created_at,
        expires_at=row.expires_at,
        path=f"/s/{row.id}",
    )


def _shown(rows: Sequence[MessageRow], last: str | None) -> list[dict[str, Any]]:
    """The messages from the first to `last`, or to the newest, without system prompts; none for an unknown `last`."""
    by_id = {row.id: row for row in rows}
    at = last if last is not None else (rows[-1].id if rows else None)
    chain: list[MessageRow] = []
    while at is not None and (row := by_id.get(at)) is not None:
        chain.append(row)
        at = row.parent_id
    return [
        {"role": row.role, "content": row.content, "model": row.model, "sources": _public(row.sources)}
        for row in reversed(chain)
        if row.role in ("user", "assistant")  # neither system prompts nor what tools said
    ]


def _public(sources: dict[str, Any] | None) -> dict[str, Any] | None:
    """Sources without what the owner's documents say, but for their titles."""
    if sources is None:
        return None
    cleaned: list[dict[str, Any]] = [
        source | {"url": "", "passage": ""} if str(source["url"]).startswith(OWN_DOCUMENT) else source
        for source in sources["sources"]
    ]
    return {name: sources.get(name) for name in ("query", "provider", "reason", "note")} | {"sources": cleaned}
