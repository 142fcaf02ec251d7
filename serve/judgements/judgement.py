"""One judgement of a reader's, independent of the store."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from serve.api.schemas.feedback import ExampleTurn

Kind: TypeAlias = Literal["example", "pair", "vote"]
Origin: TypeAlias = Literal["correction", "approval", "rejection", "siblings", "compare"]
Split: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """An example (an answer to learn), a pair (a better and a worse answer), or a vote (an answer, good or bad).

    `turns` end with the answer to learn, the better one or the one that was voted on. `conversation` is None for a vote
    on the comparison page, which belongs to none. `answered_by` is the checkpoint that gave the judged answer.
    """

    kind: Kind
    origin: Origin
    owner: str
    id: str  # of the answer or of the vote
    conversation: str | None
    at: datetime
    answered_by: str | None
    turns: Sequence[ExampleTurn]
    rejected: str | None = None  # of a pair
    good: bool | None = None  # of a vote

    @property
    def answer(self) -> str:
        """The answer to learn, the better one, or the one that was voted on."""
        return self.turns[-1].content

    @property
    def prompt_key(self) -> str:
        """A key of what was asked, the conversation before it included; case and white space do not count."""
        return _digest([[turn.role, turn.content, turn.context] for turn in self.turns[:-1]])

    @property
    def group(self) -> str:
        """What is never split between training and held-out data: a conversation, or a comparison's prompt."""
        return f"{self.owner}/{self.conversation}" if self.conversation else f"{self.owner}//{self.prompt_key}"


def normalised(text: str) -> str:
    """A text by which judgements compare: case and white space do not count."""
    return " ".join(text.split()).casefold()


def split_of(judgement: Judgement, test: float, validation: float) -> Split:
    """The split of a judgement's group, the same whenever it is asked: by the group's hash."""
    share = int(hashlib.sha256(judgement.group.encode()).hexdigest()[:12], 16) / 16**12
    if share < test:
        return "test"
    return "validation" if share < test + validation else "train"


def _digest(turns: Sequence[Sequence[str | None]]) -> str:
    texts = [[normalised(text or "") for text in turn] for turn in turns]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]
