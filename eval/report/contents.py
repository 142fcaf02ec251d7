"""What a report is made from: the values that `report.html` and `report.md` show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from eval.evaluate import Evaluation, ScoreRow
from resonance.report.curves import Curve


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation: the first of `evaluations` is the checkpoint's own, the others are those it is compared with.

    `facts` are about the checkpoint. `provenance` and `contamination` are those of `eval.json`, by task. `not_run` has
    a reason per task. `data` names the training data, which some published figures are tied to. `curves` are those of
    training.
    """

    checkpoint: str
    created_at: datetime
    facts: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    rows: Sequence[ScoreRow]
    seed: int = 0
    data: str | None = None
    curves: Sequence[Curve] = ()
    provenance: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])
    contamination: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])
    not_run: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def labels(self) -> list[str]:
        """The evaluations' labels."""
        return [evaluation.label for evaluation in self.evaluations]

    @property
    def notes(self) -> list[str]:
        """Sentences that readers of the scores need."""
        return [
            f"{evaluation.label}, {task}: {note}"
            for evaluation in self.evaluations
            for task, result in evaluation.results.items()
            for note in result.notes
        ]

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """Tasks that did not run: task, evaluation, reason."""
        failures = {
            (task, evaluation.label): result.error
            for evaluation in self.evaluations
            for task, result in evaluation.results.items()
            if result.error is not None
        }
        failures |= {(task, self.labels[0]): reason for task, reason in self.not_run.items()}
        return [(task, label, reason) for (task, label), reason in failures.items()]
