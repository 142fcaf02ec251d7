"""The paired stage of an evaluation: tasks that compare the answers of two models once both have been evaluated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from eval.evaluate import AddProgress, Evaluation, Result
from eval.judge.pairwise import against
from eval.tasks.base import MetricSpec, Record, Task, WithProvenance
from resonance.errors import ResonanceError


@runtime_checkable
class PairedTask(Protocol):
    """A task that can compare two models' answers to the same items."""

    def pair_metrics(self, label: str) -> Mapping[str, MetricSpec]:
        """The metrics that `pair` adds."""
        ...

    def unpaired(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records without what `pair` added earlier."""
        ...

    def pair(self, records: Sequence[Record], label: str, others: Sequence[Record]) -> Iterator[Record]:
        """The first model's records with further observations, in order; `others` are those of the model `label`."""
        ...

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """Sentences that readers of the scores need."""
        ...


def with_pairs(
    evaluations: Sequence[Evaluation],
    tasks: Mapping[str, Task[Any]],
    add_progress: AddProgress = lambda _description, _size: lambda _done: None,
) -> list[Evaluation]:
    """The evaluations, the first one's results with its paired scores against each other one.

    A comparison that cannot be made leaves a note that says why, and the scores so far stay.
    """
    first, *others = evaluations
    results = dict(first.results)
    for name, task in tasks.items() if others else ():
        if isinstance(task, PairedTask):
            results[name] = replace(results[name], records=tuple(task.unpaired(results[name].records)))
            for other in others:
                results[name] = _paired(task, name, results[name], other, add_progress)
    return [replace(first, results=results), *others]


def paired_metrics(task: Task[Any], recorded: Iterable[str]) -> dict[str, MetricSpec]:
    """Those of the recorded metrics that a comparison with another model has added to the task's own."""
    found: dict[str, MetricSpec] = {}
    for name in recorded:
        if isinstance(task, PairedTask) and name not in task.metrics:
            label = name.rpartition(".")[0].removeprefix(against(""))
            found |= {added: spec for added, spec in task.pair_metrics(label).items() if added == name}
    return found


def _paired(task: PairedTask, name: str, ours: Result, other: Evaluation, add_progress: AddProgress) -> Result:
    theirs = other.results[name]
    if ours.error is not None or theirs.error is not None:
        return ours
    advance = add_progress(f"{name}: against {other.label}", len(ours.records))
    records: list[Record] = []
    try:
        for record in task.pair(ours.records, other.label, theirs.records):
            records.append(record)
            advance(1)
    except ResonanceError as error:
        return replace(ours, notes=(*ours.notes, f"{name} against {other.label} did not run: {error}"))
    specs = {**ours.specs, **task.pair_metrics(other.label)}
    provenance = task.provenance(records) if isinstance(task, WithProvenance) else ours.provenance
    return replace(ours, specs=specs, records=tuple(records), notes=tuple(task.notes(records)), provenance=provenance)
