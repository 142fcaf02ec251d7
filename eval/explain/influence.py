"""The training examples that pulled most towards an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data.tokenize import IGNORE
from eval import EvalError
from eval.explain.gradient_cache import FOLDER, cached_gradients, sums_of_rows, tokens_of, unit
from eval.explain.gradients import ProjectedGradients, adapter_of
from eval.explain.training_examples import TrainingExample, training_examples
from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Influence:
    """A training example, its position in the data, and the cosine of its gradient with the answer's, -1 to 1."""

    score: float
    index: int
    source: TrainingExample


@dataclass(frozen=True, slots=True)
class Explanation:
    """The examples by falling score, out of how many, and what the gradients are of."""

    influences: Sequence[Influence]
    examples: int
    parameters: str
    checkpoint: str


def explain(
    checkpoint: Checkpoint,
    messages: Sequence[Message],
    *,
    count: int = 10,
    side: int = 64,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Explanation:
    """Rank a checkpoint's training examples for the last of `messages`, an answer.

    Raises EvalError where the run's data is not at hand, or the answer does not fit the context window.
    """
    sources = training_examples(checkpoint)
    model, template = checkpoint.load_model(), checkpoint.template()
    adapter = adapter_of(checkpoint)
    parameters = "the last block" if adapter is None else "the adapter"
    gradients = ProjectedGradients(model.float(), adapter, side=side)
    length = model.config.context_length
    asked = tokens_of(messages, template, length, last_only=True)
    if all(label == IGNORE for label in asked[1]):
        raise EvalError("The answer is empty or does not fit the model's context window; explain a shorter one.")
    cached = cached_gradients(
        checkpoint.folder / FOLDER,
        [one.example for one in sources],
        gradients,
        template,
        length,
        weights=f"{checkpoint.crc32} {parameters}",
        on_progress=on_progress,
    )
    answer = unit(sums_of_rows([[(1.0, asked)]], gradients))[0]
    scores = np.concatenate([block.astype(np.float32) @ answer for block in _blocks(cached)])
    best = np.argsort(-scores, kind="stable")[:count]
    influences = [Influence(float(scores[i]), i, sources[i]) for i in best.tolist()]
    return Explanation(influences, len(sources), parameters, checkpoint.name)


def _blocks(rows: np.ndarray[tuple[int, int], np.dtype[np.float16]]) -> list[np.ndarray]:
    return [rows[start : start + 1024] for start in range(0, len(rows), 1024)]
