"""Scores, comparisons and answers as the texts and charts that the page's template lays out."""

from collections.abc import Mapping, Sequence

from eval.evaluate import Evaluation, ScoreRow
from eval.report.breakdowns import Outcome, PairedOutcomes, best_and_worst
from eval.report.charts import interval_plot, outcome_bar
from eval.report.contents import Report
from eval.report.table import format_value, title, verdict
from eval.statistics import Difference, Score
from eval.tasks.base import Record

View = dict[str, object]

_ARROWS = {"better": "▲", "worse": "▼", "even": "="}
_SHOWN_PER_OUTCOME = 5


def tiles(report: Report) -> list[View]:
    """Each task's first score, with the difference from each other evaluation."""
    found: dict[str, View] = {}
    for row in report.rows:
        first = row.scores[0]
        if row.task not in found and row.group is None and first is not None:
            others = [
                _difference(row, difference) | {"label": label}
                for label, difference in zip(report.labels[1:], row.differences, strict=True)
                if difference is not None
            ]
            name = row.task if row.task == row.name else f"{row.task}: {title(row.name)}"
            found[row.task] = {"name": name, "n": first.n, "score": _score(first, row), "others": others}
    return [*found.values()]


def score_tables(report: Report, *, parts: bool) -> list[View]:
    """A table per task of its own scores; with `parts` one per group (`by_family`), the weakest part first."""
    sections: dict[tuple[str, str | None], list[ScoreRow]] = {}
    for row in report.rows:
        if (row.group is not None) == parts:
            sections.setdefault((row.task, row.group), []).append(row)
    tables: list[View] = []
    for (task, group), members in sections.items():
        rows = members
        version = report.provenance.get(task, {}).get("version")
        if group is not None and all(row.share for row in members):
            rows = sorted(members, key=lambda row: row.scores[0].value if row.scores[0] else 2.0)
        tables.append(
            {
                "title": task if group is None else f"{task}, {title(group)}",
                "note": f"version {version}" if group is None and version is not None else "",
                "what": "score" if group is None else "part",
                "plots": any(row.share for row in rows),
                "rows": [_score_row(row, report.labels) for row in rows],
            }
        )
    return tables


def _score_row(row: ScoreRow, labels: Sequence[str]) -> View:
    first = row.scores[0]
    return {
        "name": title(row.name) if row.group is None else row.name,
        "n": first.n if first else 0,
        "plot": interval_plot(row.scores) if row.share else "",
        "ours": _score(first, row),
        "others": [
            _difference(row, difference) | {"score": _score(score, row), "label": label}
            for label, score, difference in zip(labels[1:], row.scores[1:], row.differences, strict=True)
        ],
    }


def _score(score: Score | None, row: ScoreRow) -> View:
    if score is None:
        return {"value": "–", "spread": ""}
    low, high = (_number(bound, share=row.share) for bound in score.ci95)
    return {"value": format_value(score.value, share=row.share), "spread": f"{low} to {high}"}


def _difference(row: ScoreRow, difference: Difference | None) -> View:
    if difference is None:
        return {"verdict": "even", "arrow": "", "difference": "–", "spread": "", "p": "", "detectable": ""}
    outcome = verdict(row, difference)
    low, high = (_signed(bound, share=row.share) for bound in difference.ci95)
    sees = difference.detectable
    return {
        "verdict": outcome,
        "arrow": _ARROWS[outcome],
        "difference": _signed(difference.value, share=row.share) + (" points" if row.share else ""),
        "spread": f"{low} to {high}",
        "p": "p < .001" if difference.p < 0.001 else f"p = {difference.p:.3f}".replace("0.", "."),
        "detectable": "" if not sees else f"sees {_number(sees, share=row.share)}",
    }


def _number(value: float, *, share: bool) -> str:
    return format_value(value, share=share).removesuffix("%")


def _signed(value: float, *, share: bool) -> str:
    return ("−" if value < 0 else "+") + _number(abs(value), share=share)


def pair_tables(report: Report, outcomes: Sequence[PairedOutcomes], task_indices: Mapping[str, int]) -> list[View]:
    """A table per other evaluation, with a row per task: counts of both right, won, lost, both wrong."""
    tables: list[View] = []
    for other, label in enumerate(report.labels[1:], 1):
        pairs = [pair for pair in outcomes if pair.other == other]
        ours = report.labels[0]
        heads = ["both right", f"only {ours} right or better", f"only {label} right or better", "both wrong, or equal"]
        order: tuple[Outcome, ...] = ("both", "won", "lost", "neither")
        rows: list[View] = []
        for pair in pairs:
            counts = [pair.count(outcome) for outcome in order]
            cells = [
                {
                    "count": "–" if outcome == "both" and not pair.graded else count,
                    "result": f"{outcome}:{other}" if outcome in ("won", "lost") else "",
                }
                for outcome, count in zip(order, counts, strict=True)
            ]
            described = "; ".join(f"{head}: {count}" for head, count in zip(heads, counts, strict=True))
            bar = outcome_bar([*zip(order, counts, strict=True)], described)
            rows.append({"task": pair.task, "bar": bar, "cells": cells, "index": task_indices[pair.task]})
        if rows:
            tables.append({"title": f"{ours} against {label}", "heads": heads, "rows": rows})
    return tables


def pair_items(report: Report, outcomes: Sequence[PairedOutcomes]) -> list[View]:
    """Items that only one side answered right, as cards, a few for each task and evaluation."""
    groups: list[View] = []
    for pair in outcomes:
        if not pair.graded:
            continue
        records = {record.item: record for record in report.evaluations[0].results[pair.task].records}
        ours, theirs = report.labels[0], report.labels[pair.other]
        for outcome, winner, loser in (("lost", theirs, ours), ("won", ours, theirs)):
            items = pair.items("lost" if outcome == "lost" else "won")
            if items:
                rest = len(items) - _SHOWN_PER_OUTCOME
                groups.append(
                    {
                        "title": f"{pair.task}: {winner} is right and {loser} is wrong ({len(items)})",
                        "cards": [
                            card(records[item], pair.task, report.evaluations) for item in items[:_SHOWN_PER_OUTCOME]
                        ],
                        "rest": f"{rest} more are in the list of all items below." if rest > 0 else "",
                    }
                )
    return groups


def extremes(report: Report) -> list[View]:
    """The best and the worst answers of each task."""
    groups: list[View] = []
    for task, result in report.evaluations[0].results.items():
        best, worst = best_and_worst(result)
        if best or worst:
            groups.append(
                {
                    "task": task,
                    "best": [card(record, task, report.evaluations) for record in best],
                    "worst": [card(record, task, report.evaluations) for record in worst],
                }
            )
    return groups


def samples(report: Report) -> list[View]:
    """All evaluations' answers to prompts of tasks without scores."""
    return [
        {"task": task, "cards": [card(record, task, report.evaluations) for record in result.records]}
        for task, result in report.evaluations[0].results.items()
        if not result.specs and result.records
    ]


def card(record: Record, task: str, evaluations: Sequence[Evaluation]) -> View:
    """An item with every evaluation's answer side by side."""
    sides: list[View] = []
    for evaluation in evaluations:
        result = evaluation.results.get(task)
        given = next((each for each in result.records if each.item == record.item), None) if result else None
        if given is not None:
            outcome = "" if given.correct is None else "right" if given.correct else "wrong"
            sides.append({"label": evaluation.label, "answer": given.answer or "", "verdict": outcome})
    return {
        "item": record.item,
        "group": record.group,
        "question": record.question,
        "expected": record.expected,
        "sides": sides,
    }
