"""Owners' documents, in the form of OpenAI's files: add, list, read, delete. Answers draw on them."""

import asyncio
import mimetypes
import secrets
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query, Response, UploadFile

from serve.api.auth import CallerDep
from serve.api.errors import ApiError, not_found, store_errors
from serve.api.schemas.files import DeletedFile, File, FileList, FileText, PassageText, as_file
from serve.api.service import ServiceDep
from serve.middleware.cors import TypedRoute
from serve.storage import documents
from serve.storage.documents import TooManyDocuments
from serve.storage.tables import DocumentRow

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=TypedRoute)
Id = Annotated[str, Path(max_length=64)]
MAX_NAME = 120  # characters; a longer name is cut before its suffix
EXTRACTIONS = 2  # documents that are read at the same time
_extracting = asyncio.Semaphore(EXTRACTIONS)


@router.post("")
async def add_file(
    service: ServiceDep,
    caller: CallerDep,
    file: UploadFile,
    purpose: Annotated[Literal["user_data", "assistants"], Form(description="Kept; both mean the same.")] = "user_data",
    conversation_id: Annotated[
        str | None, Form(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Absent: a document of the library.")
    ] = None,
) -> File:
    """Add a document (text, Markdown, HTML or PDF) to a conversation, or to the library of all conversations."""
    # Here, because their libraries are not needed by a server that is given no documents.
    from resonance.retrieval.documents.extract import extract_passages
    from resonance.retrieval.documents.passages import SUFFIXES, Unreadable

    name, limits = _name(file.filename or ""), service.settings.files
    if PurePath(name).suffix.lower() not in SUFFIXES:
        kinds = ", ".join(sorted(SUFFIXES))
        raise ApiError(400, f"A document's name ends in one of {kinds}.", param="file", code="unsupported_file")
    content = await file.read(limits.max_bytes + 1)
    if len(content) > limits.max_bytes:
        raise ApiError(
            413,
            f"A document has at most {limits.max_bytes} bytes here (files.max_bytes).",
            param="file",
            code="file_too_large",
        )
    try:
        async with _extracting:
            passages = await extract_passages(name, content)
    except Unreadable as why:
        raise ApiError(400, f"The document cannot be read: {why}.", param="file", code="unreadable_file") from why
    row = DocumentRow(
        owner=caller.owner,
        id=f"file-{secrets.token_hex(12)}",
        conversation_id=conversation_id,
        name=name,
        media_type=mimetypes.guess_type(name)[0] or "text/plain",
        purpose=purpose,
        content=content,
        passages=[(passage.title, passage.text) for passage in passages],
        created_at=datetime.now(UTC),
    )
    with store_errors():
        try:
            await documents.add_document(
                service.store, row, max_count=limits.max_count, max_bytes=limits.max_total_bytes
            )
        except TooManyDocuments as most:
            raise ApiError(
                413, f"You may keep {most} here; delete some to make room.", param="file", code="too_many_files"
            ) from most
    return as_file(row)


@router.get("")
async def list_files(
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before.")] = None,
    conversation_id: Annotated[
        str | None, Query(max_length=64, description="Those of one conversation; empty: of the library.")
    ] = None,
) -> FileList:
    """The caller's documents, newest first."""
    with store_errors():
        rows, more = await documents.documents(
            service.store, caller.owner, limit=limit, after=after, conversation_id=conversation_id
        )
    ids = [row.id for row in rows]
    return FileList(
        data=[as_file(row) for row in rows],
        has_more=more,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
    )


@router.get("/{file_id}")
async def read_file(file_id: Id, service: ServiceDep, caller: CallerDep) -> File:
    """A document's facts."""
    with store_errors():
        row = await documents.document(service.store, caller.owner, file_id)
    if row is None:
        raise not_found("document")
    return as_file(row)


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def read_content(file_id: Id, service: ServiceDep, caller: CallerDep) -> Response:
    """A document's file as it was added. Browsers save it: its own HTML never runs at this address."""
    with store_errors():
        row = await documents.document(service.store, caller.owner, file_id, whole=True)
    if row is None:
        raise not_found("document")
    disposition = f"attachment; filename*=UTF-8''{quote(row.name)}"
    return Response(row.content, media_type="application/octet-stream", headers={"Content-Disposition": disposition})


@router.get("/{file_id}/text")
async def read_text(file_id: Id, service: ServiceDep, caller: CallerDep) -> FileText:
    """A document's passages; the last number in a source's address counts them from 0."""
    with store_errors():
        row = await documents.document(service.store, caller.owner, file_id, whole=True)
    if row is None:
        raise not_found("document")
    passages = [PassageText(title=title, text=text) for title, text in row.passages]
    return FileText(id=row.id, filename=row.name, passages=passages)


@router.delete("/{file_id}")
async def delete_file(file_id: Id, service: ServiceDep, caller: CallerDep) -> DeletedFile:
    """Delete a document. Answers that drew on it stay as they are."""
    with store_errors():
        known = await documents.delete_document(service.store, caller.owner, file_id)
    if not known:
        raise not_found("document")
    return DeletedFile(id=file_id)


def _name(given: str) -> str:
    """A file's name without folders and control characters, shortened where it is long."""
    name = given.replace("\\", "/").rpartition("/")[2]
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    path = PurePath(name or "unnamed")
    return path.stem[: MAX_NAME - len(path.suffix)] + path.suffix if len(name) > MAX_NAME else path.name
