"""Schemas of what is asked about stored conversations, their answers, and the served checkpoints."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve.api.schemas.fields import WHOLE, SourceChoice, Strict


class ConversationChange(Strict):
    """What changes of a conversation; what is absent stays."""

    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    pinned: bool | None = None
    archived: bool | None = None
    folder: Annotated[str, Field(max_length=60)] | None = Field(
        None, description="Null or empty takes it out of its folder."
    )
    search_sources: SourceChoice | None = Field(
        None, description="Where sources of later answers may come from; null: as the server is configured."
    )

    @model_validator(mode="after")
    def _check_change(self) -> "ConversationChange":
        if not self.model_fields_set:
            raise PydanticCustomError(
                "change", "nothing is to be changed: give title, pinned, archived, folder or search_sources"
            )
        return self

    def values(self) -> dict[str, Any]:
        """The columns that change."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        nullable = ("folder", "search_sources")
        changed = {name: value for name, value in given.items() if value is not None or name in nullable}
        if "folder" in changed:
            changed["folder"] = " ".join((changed["folder"] or "").split()) or None
        return changed


class ShareRequest(Strict):
    """How to share a conversation."""

    message_id: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="The last message that is shown, with those that it follows; absent: the newest."
    )
    expires_in_days: Annotated[int, Field(ge=1, le=3650), WHOLE] = 30


class LoadRequest(Strict):
    """The checkpoint to load."""

    checkpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")] = Field(
        description="latest, best, a run's name or a base model's name."
    )


class FeedbackRequest(Strict):
    """A rating of an answer; `correction` is the answer that the reader expected."""

    rating: Literal[1, -1]
    comment: Annotated[str, Field(max_length=4000)] | None = None
    correction: Annotated[str, Field(max_length=65536)] | None = None
