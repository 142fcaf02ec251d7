"""The fields that requests share, with their types and bounds, and how what GPT-2 cannot support is refused.

Types are strict and ranges are checked, so that the rest of the server receives valid values only.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """An object of a request: no unknown fields, no conversion of types, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _refuse(value: Any) -> None:
    if value is not None:
        raise PydanticCustomError("unsupported", "is not supported")


Unsupported = Annotated[None, BeforeValidator(_refuse), WithJsonSchema({"type": "null"})]
"""A field of OpenAI's that GPT-2 cannot support: only null is accepted."""


def _refuse_some(value: Any) -> None:
    if value not in (None, []):
        raise PydanticCustomError("unsupported", "is not supported")


NoneOf = Annotated[None, BeforeValidator(_refuse_some), WithJsonSchema({"type": ["null", "array"], "maxItems": 0})]
"""A list of OpenAI's that GPT-2 cannot support: only null and the empty list are accepted, which ask for nothing."""


def _whole(value: Any) -> Any:
    """Accept 1.0 as 1: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)  # comes after the bounds, so that the JSON schema has them

Text = Annotated[str, Field(min_length=0)]  # any bound lets pydantic refuse lone surrogates, which JSON can express
SessionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,6}$")]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
NewTokens = Annotated[int, Field(ge=1, le=1_000_000), WHOLE]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63), WHOLE]  # bounds that a double can express
TokenId = Annotated[int, Field(ge=0, lt=2**31), WHOLE]
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
SourceChoice = Literal["web", "documents", "both", "off"]
"""Where an answer's sources may come from: `documents` are the server's and the caller's own."""
