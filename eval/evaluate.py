"""Runs tasks on models, and compares the models' scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Difference, Metric, Score, holm
from eval.tasks.base import DOES_NOT_FIT, MetricSpec, Record, Task
from resonance.errors import ResonanceError

BY_FAMILY = "by_family"

Advance = Callable[[int], None]  # reports a number of finished items
AddProgress = Callable[[str, int], Advance]  # (description, number of items) -> callback that reports finished items


@dataclass(frozen=True, slots=True)
class Result:
    """A task's outcome for one model: metric specifications and records by item, in the items' order.

    `notes` are sentences that readers of the scores need. With an `error` the task did not run, and has no records.
    """

    specs: Mapping[str, MetricSpec]
    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None

    def metrics(self) -> dict[tuple[str | None, str], Metric]:
        """All metrics by (group, name): the task's own, those nested by a dot in their name, and those by family.

        The first metric with `by_group` is in `by_family`, a further one in `<metric>_by_family`.
        """
        found: dict[tuple[str | None, str], Metric] = {}
        for name, spec in self.specs.items():
            group, _, inner = name.rpartition(".")
            found[group or None, inner] = Metric.of_records(spec, name, self.records)
        grouped = [name for name, spec in self.specs.items() if spec.by_group]
        families = sorted({record.group for record in self.records if record.group is not None})
        for place, name in enumerate(grouped):
            group = BY_FAMILY if place == 0 else f"{name}_{BY_FAMILY}"
            for family in families:
                members = [record for record in self.records if record.group == family]
                found[group, family] = Metric.of_records(self.specs[name], name, members)
        own_first = sorted(found, key=lambda key: key[0] is not None)  # stable
        return {key: found[key] for key in own_first}


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
    model: EvaluatedModel,
    tasks: Mapping[str, Task[Any]],
    examples: Sequence[Example],
    add_progress: AddProgress = lambda _description, _size: lambda _done: None,
) -> Evaluation:
    """Run all tasks on one model, in order. A task that cannot run says why in its result, and the rest goes on."""
    results: dict[str, Result] = {}
    for name, task in tasks.items():
        try:
            results[name] = _run(model, name, task, examples, add_progress)
        except ResonanceError as error:
            results[name] = Result(task.metrics, error=str(error))
    return Evaluation(model.label, model.engine.stats().precision, results)


def _run(
    model: EvaluatedModel, name: str, task: Task[Any], examples: Sequence[Example], add_progress: AddProgress
) -> Result:
    items = task.items(examples)
    if not items:
        raise EvalError("There is nothing to ask: the task has no items.")
    advance = add_progress(f"{model.label}: {name}", len(items))
    records: list[Record] = []
    for item, record in zip(items, task.run(model, items), strict=True):
        assert record.item == item.id
        records.append(record)
        advance(1)
    if all(record.details.get(DOES_NOT_FIT) for record in records):
        raise EvalError(
            f"None of the {len(records)} test examples fits into a context of {model.context_length} tokens; "
            "evaluate on data with shorter examples."
        )
    result = Result(task.metrics, tuple(records), tuple(task.notes(records)))
    for metric in result.metrics().values():
        if metric.n:
            metric.value()  # raises EvalError for a model whose outputs are not finite
    return result


def compare(evaluations: Sequence[Evaluation], *, seed: int = 0) -> list[ScoreRow]:
    """All scores of the first evaluation beside the others', paired by item."""
    rows: list[ScoreRow] = []
    for task, result in evaluations[0].results.items():
        if result.error is not None:
            continue
        others = [evaluation.results[task].metrics() for evaluation in evaluations[1:]]
        by_group: dict[str | None, list[ScoreRow]] = {}
        for (group, name), metric in result.metrics().items():
            row = _row(task, name, group, metric, [other.get((group, name)) for other in others], seed)
            by_group.setdefault(group, []).append(row)
        for group, members in by_group.items():
            rows.extend(members if group is None else _adjusted(members))
    return rows


def _row(task: str, name: str, group: str | None, ours: Metric, others: Sequence[Metric | None], seed: int) -> ScoreRow:
    return ScoreRow(
        task=task,
        name=name,
        group=group,
        scores=tuple(metric.score(seed=seed) if metric and metric.n else None for metric in (ours, *others)),
        differences=tuple(
            ours.minus(other, seed=seed) if other and ours.shared_with(other) and not ours.spec.measured else None
            for other in others
        ),
        share=ours.spec.share,
        higher_is_better=ours.spec.higher_is_better,
    )


def _adjusted(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """The rows, with the p-values adjusted by column."""
    columns: list[list[Difference | None]] = []
    for column in zip(*(row.differences for row in rows), strict=True):
        p_values = iter(holm([difference.p for difference in column if difference is not None]))
        columns.append([difference and replace(difference, p=next(p_values)) for difference in column])
    return [replace(row, differences=tuple(column[i] for column in columns)) for i, row in enumerate(rows)]
