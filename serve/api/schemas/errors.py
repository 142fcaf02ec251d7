"""The error body of every endpoint."""

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What went wrong: a sentence, its type, the field at fault, and a code for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error response."""

    error: ErrorDetail
