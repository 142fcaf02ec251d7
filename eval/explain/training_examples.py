"""What a run was trained on, each example once, with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from data import DataError
from data.example import Example
from data.feedback import FeedbackSource
from eval.dataset import load_training_examples
from resonance.checkpoint import Checkpoint

PROVENANCE = ("conversation", "id", "owner", "owner_id", "at", "answered_by")


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """An example, how often an epoch has it, its kind, and its provenance as in a file of `resonance feedback export`.

    `kind` is `example` for data of a file or a generator, and otherwise the judgement: correction, approval, rejection,
    siblings or compare.
    """

    example: Example
    times: int
    kind: str = "example"
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])


def training_examples(checkpoint: Checkpoint) -> list[TrainingExample]:
    """Everything that a run was trained on, in the order of its data. Raises EvalError and DataError."""
    times: dict[bytes, int] = {}
    examples: dict[bytes, Example] = {}
    for example in load_training_examples(checkpoint):
        key = example.to_json()
        times[key] = times.get(key, 0) + 1
        examples.setdefault(key, example)
    judged = _judgements(checkpoint)
    made: list[TrainingExample] = []
    for key, example in examples.items():
        row = judged.get(key)
        if row is None:
            made.append(TrainingExample(example, times[key]))
            continue
        provenance = {name: str(row[name]) for name in PROVENANCE if row.get(name)}
        made.append(TrainingExample(example, times[key], str(row.get("origin", "judgement")), provenance))
    return made


def _judgements(checkpoint: Checkpoint) -> dict[bytes, Mapping[str, Any]]:
    """The rows of all feedback files in the run's data, by the JSON of the example that each makes."""
    found: dict[bytes, Mapping[str, Any]] = {}
    for node in _feedback_nodes(yaml.safe_load(checkpoint.train_yaml() or "{}").get("data")):
        try:
            source = FeedbackSource(node.get("path"), learn=node.get("learn", "auto"),
                                    run_objective=node.get("run_objective"))  # fmt: skip
            found |= source.judgements()
        except DataError:
            continue  # the source of the examples raises the same, with its own sentence
    return found


def _feedback_nodes(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("_target_") == "data.feedback.FeedbackSource":
            yield node
        for value in node.values():
            yield from _feedback_nodes(value)
