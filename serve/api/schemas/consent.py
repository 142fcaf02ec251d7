"""Schemas of an owner's consent to training."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.api.schemas.fields import Strict
from serve.api.schemas.responses import Time

Policy = Literal["ask", "given", "never"]


class ConsentRequest(Strict):
    """Whether training may use what the caller writes and judges."""

    given: bool


class TrainingConsent(BaseModel):
    """Whether training may use what the caller writes and judges."""

    object: Literal["training_consent"] = "training_consent"
    policy: Policy = Field(
        description="ask: each owner decides, and until then it is no; given: the operator has everybody's consent; "
        "never: nothing is used for training."
    )
    given: bool
    changed_at: Time | None = Field(description="When the caller decided; null where they have not.")
