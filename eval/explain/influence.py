"""The training examples that pulled most towards an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.explain.build_index import OnProgress, open_or_build
from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint
from resonance.influence.answer import answer_gradient
from resonance.influence.index import Record


@dataclass(frozen=True, slots=True)
class Explanation:
    """The examples by falling score as the index describes them, each with its `score`, and what it is of."""

    influences: Sequence[dict[str, Any]]
    record: Record
    checkpoint: str


def explain(
    checkpoint: Checkpoint,
    messages: Sequence[Message],
    *,
    count: int = 10,
    side: int = 64,
    examples: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Explanation:
    """Rank a checkpoint's training examples for the last of `messages`, an answer.

    Raises EvalError where the run's data is not at hand, and NoAnswer where the answer does not fit the window.
    """
    answer = answer_gradient(checkpoint, messages, side)
    index = open_or_build(checkpoint, side=side, examples=examples, on_progress=on_progress)
    ranked = [{"score": one.score, **index.example(one.position)} for one in index.rank(answer, count)]
    return Explanation(ranked, index.record, checkpoint.name)
