"""What a report shows besides scores: accuracy by length and by turns, paired outcomes, best and worst answers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.evaluate import Evaluation, Result, ScoreRow
from eval.judge.pairwise import TIE, win_rate
from eval.statistics import Metric, Score
from eval.tasks.base import MetricSpec, Record

_AFTER_TURNS = re.compile(r"after_(\d+)")
_BINS, _FEWEST_PER_BIN = 5, 15
_EXAMPLES = 3  # best and worst answers of a task

Outcome = Literal["both", "won", "lost", "neither"]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A score over something else; `points` are positions with a label and every evaluation's score there."""

    task: str
    title: str
    subtitle: str
    points: Sequence[tuple[float, str, tuple[Score | None, ...]]]


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """How the first evaluation's items of a task went against another's, by item.

    `won`: only the first is right, or its score is better; `lost`: the other way round. `graded`: items are right or
    wrong; else they have a score, and `neither` stands for equal ones.
    """

    task: str
    other: int  # index of the evaluation
    outcomes: Mapping[str, Outcome]
    graded: bool

    def count(self, outcome: Outcome) -> int:
        """The number of items with an outcome."""
        return sum(each == outcome for each in self.outcomes.values())

    def items(self, outcome: Outcome) -> list[str]:
        """The items with an outcome, in the task's order."""
        return [item for item, each in self.outcomes.items() if each == outcome]


def by_turns(rows: Sequence[ScoreRow]) -> list[Breakdown]:
    """Scores after numbers of earlier turns, from metrics such as `after_30`."""
    points: dict[str, list[tuple[float, str, tuple[Score | None, ...]]]] = {}
    for row in rows:
        if row.group is None and row.share and (found := _AFTER_TURNS.fullmatch(row.name)):
            points.setdefault(row.task, []).append((float(found[1]), found[1], row.scores))
    return [
        Breakdown(
            task, f"{task}: right answers late in a conversation", "by the number of earlier turns", sorted(those)
        )
        for task, those in points.items()
        if len(those) > 1
    ]


def by_length(evaluations: Sequence[Evaluation], *, seed: int = 0) -> list[Breakdown]:
    """Each task's first metric by the length of the question and of the expected answer, in characters.

    Bins have about equally many items. Tasks whose metric is no share, and those with few items, are left out.
    """
    lengths: tuple[tuple[str, Callable[[Record], int]], ...] = (
        ("question", lambda record: len(record.question)),
        ("expected answer", lambda record: len(record.expected or "")),
    )
    found: list[Breakdown] = []
    for task, result in evaluations[0].results.items():
        name, spec = next(iter(result.specs.items()), (None, None))
        if name is None or spec is None or not spec.share or _AFTER_TURNS.fullmatch(name):
            continue
        observed = [record for record in result.records if name in record.observations]
        for what, length in lengths:
            bins = _bins([(record.item, length(record)) for record in observed if length(record)])
            if len(bins) > 1:
                points = [
                    (float(place), label, _scores(evaluations, task, name, spec, items, seed))
                    for place, (label, items) in enumerate(bins)
                ]
                heading = f"{task}: {name.replace('_', ' ')} by length of the {what}"
                found.append(Breakdown(task, heading, "in characters, in parts of about equally many items", points))
    return found


def _bins(lengths: Sequence[tuple[str, int]]) -> list[tuple[str, set[str]]]:
    """Items by length: up to `_BINS` parts of about equal size, each with its range as a label."""
    count = min(_BINS, len(lengths) // _FEWEST_PER_BIN)
    if count < 2:
        return []
    inner = np.quantile([length for _, length in lengths], np.linspace(0, 1, count + 1)[1:-1])
    places = np.searchsorted(np.unique(inner), [length for _, length in lengths], side="left")
    bins: list[tuple[str, set[str]]] = []
    for place in range(int(places.max()) + 1):
        members = [pair for pair, where in zip(lengths, places, strict=True) if where == place]
        if members:
            low, high = min(length for _, length in members), max(length for _, length in members)
            bins.append((f"{low}–{high}" if low < high else f"{low}", {item for item, _ in members}))
    return bins


def _scores(
    evaluations: Sequence[Evaluation], task: str, name: str, spec: MetricSpec, items: set[str], seed: int
) -> tuple[Score | None, ...]:
    scores: list[Score | None] = []
    for evaluation in evaluations:
        result = evaluation.results.get(task)
        members = [record for record in result.records if record.item in items] if result else []
        metric = Metric.of_records(spec, name, members)
        scores.append(metric.score(seed=seed) if metric.n else None)
    return tuple(scores)


def quality(record: Record, specs: Mapping[str, MetricSpec]) -> float:
    """A number to rank one task's answers by: its first metric if that is no share, else the mean of its shares.

    Higher is better; 0 without observations.
    """
    shares, others = list[float](), list[float]()
    for name, spec in specs.items():
        numerator, denominator = record.observations.get(name, (0.0, 0.0))
        if denominator > 0:
            value = numerator / denominator
            (shares if spec.share else others).append(value if spec.higher_is_better else -value)
    first = next(iter(specs.values()), None)
    if shares and (first is None or first.share or not others):
        return sum(shares) / len(shares)
    return others[0] if others else 0.0


def paired_outcomes(evaluations: Sequence[Evaluation]) -> list[PairedOutcomes]:
    """Wins and losses of the first evaluation against each other one, by task."""
    found: list[PairedOutcomes] = []
    for other in range(1, len(evaluations)):
        for task, ours in evaluations[0].results.items():
            theirs = evaluations[other].results.get(task)
            measured = all(spec.measured for spec in ours.specs.values())  # no item is right, such as those of speed
            if theirs is not None and ours.records and theirs.records and not measured:
                outcomes = _paired(ours, theirs, win_rate(evaluations[other].label))
                graded = any(record.correct is not None for record in ours.records)
                if outcomes:
                    found.append(PairedOutcomes(task, other, outcomes, graded))
    return found


def _paired(ours: Result, theirs: Result, verdicts: str) -> dict[str, Outcome]:
    """The outcomes by item; `verdicts` is the metric of a judge that has seen both answers."""
    known = {record.item: record for record in theirs.records}
    outcomes: dict[str, Outcome] = {}
    for record in ours.records:
        other = known.get(record.item)
        if other is None:
            continue
        if verdicts in record.observations:
            won, _ = record.observations[verdicts]
            outcomes[record.item] = "won" if won > TIE else "lost" if won < TIE else "neither"
        elif record.correct is not None and other.correct is not None:
            first, second = record.correct, other.correct
            outcomes[record.item] = ("both" if second else "won") if first else ("lost" if second else "neither")
        elif record.observations and other.observations:
            common = record.observations.keys() & other.observations.keys()
            specs = {name: spec for name, spec in ours.specs.items() if name in common}
            first, second = quality(record, specs), quality(other, specs)
            outcomes[record.item] = "won" if first > second else "lost" if first < second else "neither"
    return outcomes


def best_and_worst(result: Result) -> tuple[list[Record], list[Record]]:
    """A task's best and worst answers.

    The best are the right ones with the longest expected answers, the worst the wrong ones with the lowest `quality`;
    each family comes once before any comes twice. Tasks without expected answers have none.
    """
    graded = [record for record in result.records if record.correct is not None and record.expected]
    right = sorted((record for record in graded if record.correct), key=lambda record: -len(record.expected or ""))
    wrong = sorted(
        (record for record in graded if not record.correct), key=lambda record: quality(record, result.specs)
    )
    return _spread(right), _spread(wrong)


def _spread(records: Sequence[Record]) -> list[Record]:
    """The first few records, those of families that have not been taken before the others."""
    seen: dict[str | None, int] = {}
    rounds: list[tuple[int, int, Record]] = []
    for place, record in enumerate(records):
        taken = seen.get(record.group, 0)
        seen[record.group] = taken + 1
        rounds.append((taken, place, record))
    return [record for _, _, record in sorted(rounds, key=lambda entry: entry[:2])[:_EXAMPLES]]
