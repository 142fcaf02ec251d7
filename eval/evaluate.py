"""Putting subjects to the test, and lining their scores up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from data.example import Example
from eval.evaluated_model import Subject
from eval.statistics import Difference, Measure, Score, holm
from eval.tasks.base import Advance, Result, Task

Announce = Callable[[str, int], Advance]  # a description and a number of steps -> what reports them


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One subject's results by task; `precision` is what its engine computed in."""

    label: str
    precision: str
    results: Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class Row:
    """One score of all evaluations: the first one's, and the others' with the first one's lead over them.

    `group` is the heading it stands under (`by_family`), None for a task's own scores. The p-values of a
    group are adjusted for its size (Holm), as one looks at all of its rows at once.
    """

    task: str
    name: str
    group: str | None
    scores: tuple[Score | None, ...]  # one for each evaluation
    leads: tuple[Difference | None, ...]  # one for each evaluation but the first
    share: bool
    higher_is_better: bool


def evaluate(
    subject: Subject, tasks: Mapping[str, Task], examples: Sequence[Example], announce: Announce
) -> Evaluation:
    """Put one subject to all tasks, in order."""
    results: dict[str, Result] = {}
    for name, task in tasks.items():
        advance = announce(f"{subject.label}: {name}", task.size(examples))
        results[name] = task.run(subject, examples, advance)
    return Evaluation(subject.label, subject.engine.stats().precision, results)


def line_up(evaluations: Sequence[Evaluation], *, seed: int = 0) -> list[Row]:
    """Every score of the first evaluation beside the others', paired example by example."""
    rows: list[Row] = []
    for task, result in evaluations[0].results.items():
        others = [evaluation.results[task] for evaluation in evaluations[1:]]
        for name, measure in result.measures.items():
            rows.append(_row(task, name, None, measure, [other.measures[name] for other in others], seed))
        for group, measures in result.groups.items():
            grouped = [
                _row(task, name, group, measure, [other.groups[group][name] for other in others], seed)
                for name, measure in measures.items()
            ]
            rows.extend(_adjusted(grouped))
    return rows


def _row(task: str, name: str, group: str | None, ours: Measure, others: Sequence[Measure], seed: int) -> Row:
    return Row(
        task=task,
        name=name,
        group=group,
        scores=tuple(measure.score(seed=seed) if measure.n else None for measure in (ours, *others)),
        leads=tuple(ours.minus(other, seed=seed) if ours.shared_with(other) else None for other in others),
        share=ours.share,
        higher_is_better=ours.higher_is_better,
    )


def _adjusted(rows: Sequence[Row]) -> list[Row]:
    """The rows with p-values adjusted in each column."""
    columns: list[list[Difference | None]] = []
    for column in zip(*(row.leads for row in rows), strict=True):
        known = iter(holm([lead.p for lead in column if lead is not None]))
        columns.append([lead and replace(lead, p=next(known)) for lead in column])
    return [replace(row, leads=tuple(column[i] for column in columns)) for i, row in enumerate(rows)]
