"""Schemas of documents: OpenAI's file objects with fields of our own."""

from datetime import UTC
from typing import Literal

from pydantic import BaseModel, Field

from serve.storage.tables import DocumentRow


class File(BaseModel):
    """A document; the fields from `media_type` on are ours."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="In seconds since 1970, as OpenAI has it.")
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    media_type: str
    conversation_id: str | None = Field(description="Null: of the library, for all of its owner's conversations.")


class FileList(BaseModel):
    """Documents, newest first; `last_id` is `after` of the next page."""

    object: Literal["list"] = "list"
    data: list[File]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFile(BaseModel):
    """Confirms that a document was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class PassageText(BaseModel):
    """One passage of a document, under its title or heading."""

    title: str
    text: str


class FileText(BaseModel):
    """A document as searches read it."""

    id: str
    object: Literal["file.text"] = "file.text"
    filename: str
    passages: list[PassageText]


def as_file(row: DocumentRow) -> File:
    """The API's form of a stored document."""
    created_at = row.created_at if row.created_at.tzinfo else row.created_at.replace(tzinfo=UTC)  # SQLite's has none
    return File(
        id=row.id,
        bytes=row.size,
        created_at=int(created_at.timestamp()),
        filename=row.name,
        purpose=row.purpose,
        media_type=row.media_type,
        conversation_id=row.conversation_id,
    )
