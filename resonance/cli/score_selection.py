"""Selects runs by their scores: sorts by one, and filters by conditions such as `instruct.exact_match>=0.8`."""

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.hydra_config import nearest

RunT = TypeVar("RunT")

EVAL_FILE = "eval.json"  # `resonance eval` writes it; it has the scores by group too
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"\s*(?P<score>[^<>=!]+?)\s*(?P<operator>>=|<=|==|!=|>|<|=)\s*(?P<value>\S+)\s*")


class ScoreSelectionError(ResonanceError):
    """A score that no run has, or a condition that cannot be read."""


@dataclass(frozen=True, slots=True)
class RecordedScore:
    """A score as a checkpoint holds it; `ci95` is its 95% interval, None where none is recorded."""

    value: float
    ci95: tuple[float, float] | None = None
    higher_is_better: bool = True

    def __str__(self) -> str:
        if self.ci95 is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ({self.ci95[0]:.4g}–{self.ci95[1]:.4g})"


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a score with a number."""

    score: str
    operator: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read `task.metric>=number`. Raises ScoreSelectionError."""
        found = _CONDITION.fullmatch(text)
        try:
            value = float(found["value"]) if found else math.nan
        except ValueError:
            value = math.nan
        if found is None or math.isnan(value):
            raise ScoreSelectionError(
                f"where={text!r} is no condition; write a score, one of {', '.join(_OPERATORS)} and a number, "
                "such as where='instruct.exact_match>=0.8'."
            )
        return cls(found["score"], found["operator"], value)

    def holds(self, scores: Mapping[str, RecordedScore]) -> bool:
        """Whether a run has the score and it meets the condition."""
        score = scores.get(self.score)
        return score is not None and _OPERATORS[self.operator](score.value, self.value)


def parse_conditions(where: object) -> list[Condition]:
    """The conditions of `where=`: None, one, several with commas between them, or a list of such."""
    texts = where if isinstance(where, Sequence) and not isinstance(where, str) else [where or ""]
    parts = [part.strip() for text in texts for part in str(text).strip("[]").split(",")]
    return [Condition.parse(part) for part in parts if part]


def recorded_scores(checkpoint: Checkpoint) -> dict[str, RecordedScore]:
    """All scores of a checkpoint by dotted name: `instruct.exact_match`, `instruct.by_family.arithmetic`.

    Those of `resonance.json`, and the ones by group of an `eval.json` beside it that can be read, which also says of
    each metric whether higher is better; without it that is assumed.
    """
    path = checkpoint.folder / EVAL_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        found = {}
    document: dict[str, object] = found if isinstance(found, dict) else {}
    scores: dict[str, RecordedScore] = {}
    for tasks in (document.get("tasks"), checkpoint.metadata.scores):
        for task, node in tasks.items() if isinstance(tasks, dict) else ():
            _collect(node, str(task), _lower_is_better(document, str(task)), scores)
    return scores


def _lower_is_better(document: Mapping[str, object], task: str) -> set[str]:
    """The metrics of a task whose lowest value is the best, and the names of their scores by family."""
    provenance = document.get("provenance")
    entry = provenance.get(task) if isinstance(provenance, dict) else None
    metrics = entry.get("metrics") if isinstance(entry, dict) else None
    lower: set[str] = set()
    grouped = 0
    for name, spec in metrics.items() if isinstance(metrics, dict) else ():
        if isinstance(spec, dict):
            by_family = "by_family" if grouped == 0 else f"{name}_by_family"
            grouped += bool(spec.get("by_group"))
            if spec.get("higher_is_better") is False:
                lower |= {str(name), by_family} if spec.get("by_group") else {str(name)}
    return lower


def _collect(node: object, name: str, lower: Set[str], scores: dict[str, RecordedScore]) -> None:
    if not isinstance(node, dict):
        return
    value = node.get("value")
    if isinstance(value, int | float) and not isinstance(value, bool):
        interval = node.get("ci95")
        ci95 = (float(interval[0]), float(interval[1])) if isinstance(interval, list) and len(interval) == 2 else None
        metric = name.partition(".")[2]
        higher_is_better = metric not in lower and metric.partition(".")[0] not in lower
        scores[name] = RecordedScore(float(value), ci95, higher_is_better)
        return
    for key, child in node.items():
        _collect(child, f"{name}.{key}", lower, scores)


def check_names(names: Iterable[str], runs: Iterable[Mapping[str, RecordedScore]]) -> None:
    """Raise ScoreSelectionError, with the nearest name, for a score that no run has."""
    known = sorted({name for scores in runs for name in scores})
    for name in names:
        if not known:
            raise ScoreSelectionError(f"No run has scores yet, {name!r} included; `resonance eval` makes them.")
        if name not in known:
            raise ScoreSelectionError(f"No run has a score {name!r}; {nearest(name, known)}")


def sorted_by(
    runs: Sequence[RunT], name: str, scores_of: Callable[[RunT], Mapping[str, RecordedScore]], *, order: str | None
) -> list[RunT]:
    """The runs by one score, those without it last; `order` None puts the best first.

    Runs with equal scores keep their order.
    """
    scores = [scores_of(run).get(name) for run in runs]
    best_is_high = all(score.higher_is_better for score in scores if score is not None)
    sign = -1.0 if (best_is_high if order is None else order == "descending") else 1.0
    ranked = sorted(
        range(len(runs)),
        key=lambda i: math.inf if (score := scores[i]) is None else sign * score.value,
    )
    return [runs[i] for i in ranked]
