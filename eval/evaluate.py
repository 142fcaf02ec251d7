"""Runs tasks on models, and compares the models' scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.results import Result
from eval.statistics import Difference, Metric, Score, holm
from eval.store import Store
from eval.tasks.base import DOES_NOT_FIT, Item, Record, Task, WithProvenance
from resonance.errors import ResonanceError

Advance = Callable[[int], None]  # reports a number of finished items
AddProgress = Callable[[str, int], Advance]  # (description, number of items) -> callback that reports finished items


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
    store: Store | None = None,
) -> Evaluation:
    """Run all tasks on one model, in order; with a `store`, keep records and scores, and go on where it stopped.

    A task that cannot run says why in its result, and the rest goes on.
    """
    results: dict[str, Result] = {}
    for name, task in tasks.items():
        try:
            results[name] = _run(model, name, task, examples, add_progress, store)
        except ResonanceError as error:
            results[name] = Result(task.metrics, error=str(error))
            if store is not None:
                store.fail(name, str(error))
    return Evaluation(model.label, model.engine.stats().precision, results)


def _run(
    model: EvaluatedModel,
    name: str,
    task: Task[Any],
    examples: Sequence[Example],
    add_progress: AddProgress,
    store: Store | None,
) -> Result:
    items = task.items(examples)
    if not items:
        raise EvalError("There is nothing to ask: the task has no items.")
    advance = add_progress(f"{model.label}: {name}", len(items))
    if store is None:
        return _result(task, _records(model, task, items, {}, lambda _record: advance(1)), model)
    with store.open(name, task, items) as opened:
        advance(len(opened.records))

        def keep(record: Record) -> None:
            opened.append(record)
            advance(1)

        result = _result(task, _records(model, task, items, opened.records, keep), model)
        store.finish(opened, result)
    return result


def _records(
    model: EvaluatedModel,
    task: Task[Any],
    items: Sequence[Item[Any]],
    known: Mapping[str, Record],
    keep: Callable[[Record], None],
) -> list[Record]:
    """All items' records in their order: the known ones, and the rest as the task yields them."""
    rest = [item for item in items if item.id not in known]
    found = dict(known)
    if rest:
        for item, record in zip(rest, task.run(model, rest), strict=True):
            assert record.item == item.id, f"{type(task).__name__} yields records in another order than its items"
            found[item.id] = record
            keep(record)
    return [found[item.id] for item in items]


def _result(task: Task[Any], records: Sequence[Record], model: EvaluatedModel) -> Result:
    if all(record.details.get(DOES_NOT_FIT) for record in records):
        raise EvalError(
            f"None of the {len(records)} test examples fits into a context of {model.context_length} tokens; "
            "evaluate on data with shorter examples."
        )
    provenance = task.provenance(records) if isinstance(task, WithProvenance) else {}
    result = Result(task.metrics, tuple(records), tuple(task.notes(records)), provenance=provenance)
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


def comparisons_of(labels: Sequence[str], rows: Sequence[ScoreRow]) -> dict[str, dict[str, dict[str, object]]]:
    """The differences by label, task and metric (`by_family.capitals`), as `eval.json` stores them."""
    found: dict[str, dict[str, dict[str, object]]] = {label: {} for label in labels[1:]}
    for row in rows:
        name = row.name if row.group is None else f"{row.group}.{row.name}"
        for label, difference in zip(labels[1:], row.differences, strict=True):
            if difference is not None:
                found[label].setdefault(row.task, {})[name] = difference.as_json()
    return found


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
