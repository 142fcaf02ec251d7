"""Runs tasks on models, and compares the models' scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Difference, Metric, Score, holm
from eval.tasks.base import Advance, Result, Task

AddProgress = Callable[[str, int], Advance]  # (description, number of steps) -> callback that reports finished steps


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model's results by task; `precision` is that of its engine."""

    label: str
    precision: str
    results: Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One metric's scores in all evaluations, and the first evaluation's difference from each other one.

    `group` is the metric's group within the task (`by_family`), None for the task's own metrics. The p-values within a
    group are adjusted for multiple testing (Holm).
    """

    task: str
    name: str
    group: str | None
    scores: tuple[Score | None, ...]  # by evaluation
    differences: tuple[Difference | None, ...]  # by evaluation, without the first
    share: bool
    higher_is_better: bool


def evaluate(
    model: EvaluatedModel, tasks: Mapping[str, Task], examples: Sequence[Example], add_progress: AddProgress
) -> Evaluation:
    """Run all tasks on one model, in order."""
    results: dict[str, Result] = {}
    for name, task in tasks.items():
        advance = add_progress(f"{model.label}: {name}", task.size(examples))
        results[name] = task.run(model, examples, advance)
    return Evaluation(model.label, model.engine.stats().precision, results)


def compare(evaluations: Sequence[Evaluation], *, seed: int = 0) -> list[ScoreRow]:
    """All scores of the first evaluation beside the others', paired by example."""
    rows: list[ScoreRow] = []
    for task, result in evaluations[0].results.items():
        others = [evaluation.results[task] for evaluation in evaluations[1:]]
        for name, metric in result.metrics.items():
            rows.append(_row(task, name, None, metric, [other.metrics[name] for other in others], seed))
        for group, metrics in result.groups.items():
            grouped = [
                _row(task, name, group, metric, [other.groups[group][name] for other in others], seed)
                for name, metric in metrics.items()
            ]
            rows.extend(_adjusted(grouped))
    return rows


def _row(task: str, name: str, group: str | None, ours: Metric, others: Sequence[Metric], seed: int) -> ScoreRow:
    return ScoreRow(
        task=task,
        name=name,
        group=group,
        scores=tuple(metric.score(seed=seed) if metric.n else None for metric in (ours, *others)),
        differences=tuple(ours.minus(other, seed=seed) if ours.shared_with(other) else None for other in others),
        share=ours.share,
        higher_is_better=ours.higher_is_better,
    )


def _adjusted(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """The rows, with the p-values adjusted by column."""
    columns: list[list[Difference | None]] = []
    for column in zip(*(row.differences for row in rows), strict=True):
        p_values = iter(holm([difference.p for difference in column if difference is not None]))
        columns.append([difference and replace(difference, p=next(p_values)) for difference in column])
    return [replace(row, differences=tuple(column[i] for column in columns)) for i, row in enumerate(rows)]
