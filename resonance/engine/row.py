"""What sampling must know of one place in one text."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from resonance.engine.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class Row:
    """The place that a row of logits predicts: what was asked for, and what stands before it."""

    params: SamplingParams
    seed: int
    token_ids: Sequence[int]  # everything before this place
    prompt_tokens: int  # so many of them were given
    end_ids: frozenset[int]  # the tokens that would end the text here
    allowed: Tensor | None = None  # (vocab,) bool: what a grammar lets through; None: everything

    @property
    def place(self) -> int:
        """How many tokens were generated before this one."""
        return len(self.token_ids) - self.prompt_tokens

    @property
    def new_ids(self) -> Sequence[int]:
        """The tokens generated before this one."""
        return self.token_ids[self.prompt_tokens :]

    @property
    def may_leave_nothing(self) -> bool:
        """Whether `shape` may leave out every token here."""
        return bool(self.allowed is not None or self.params.banned_token_ids or self.params.logits_processors)

    @property
    def shapes_logits(self) -> bool:
        """Whether `shape` changes anything here."""
        return self.allowed is not None or self.params.shapes_logits
