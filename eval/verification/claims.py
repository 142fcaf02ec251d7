"""A claim of a checkpoint, and the outcome of deriving it again."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["holds", "does not hold", "not claimed", "not checked"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the table; `why` says how a claim fails, why it was not checked, or what exactly was compared."""

    name: str
    outcome: Outcome
    why: str = ""

    @property
    def fails(self) -> bool:
        """Whether the checkpoint is not what it claims."""
        return self.outcome == "does not hold"


def judged(name: str, problem: str | None, held: str = "") -> Claim:
    """A claim that holds, as `held` says, unless there is a problem."""
    return Claim(name, "holds", held) if problem is None else Claim(name, "does not hold", problem)
