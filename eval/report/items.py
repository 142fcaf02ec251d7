"""The items of a report as JSON, for its list with filter and search."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from eval.evaluate import Evaluation
from eval.records import records_path
from eval.report.breakdowns import PairedOutcomes, quality
from eval.report.table import title
from eval.tasks.base import MetricSpec, Record

MOST_ITEMS = 4000  # of one task
MOST_CHARACTERS = 2000  # of one text
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_SIGNS = {"won": 1, "lost": -1, "both": 0, "neither": 0}


@dataclass(frozen=True, slots=True)
class ItemList:
    """The list's data as the text of a `<script type="application/json">`, and sentences about what it leaves out."""

    json: Markup
    count: int
    tasks: Sequence[str]
    omissions: Sequence[str]


def item_list(evaluations: Sequence[Evaluation], outcomes: Sequence[PairedOutcomes]) -> ItemList:
    """Every task's items with all evaluations' answers, within `MOST_ITEMS` a task and `MOST_CHARACTERS` a text."""
    tasks: list[dict[str, object]] = []
    items: list[dict[str, object]] = []
    omissions: list[str] = []
    for task, result in evaluations[0].results.items():
        if not result.records:
            continue
        kept = result.records[:MOST_ITEMS]
        file = records_path(Path(), task).as_posix()
        if len(kept) < len(result.records):
            omissions.append(
                f"{task}: the first {len(kept):,} of {len(result.records):,} items; the rest is in {file}."
            )
        if any(len(text) > MOST_CHARACTERS for record in kept for text in _texts(record)):
            omissions.append(f"{task}: texts end after {MOST_CHARACTERS:,} characters; {file} has all of them.")
        by_label = [_by_item(evaluation, task) for evaluation in evaluations]
        compared = {pair.other: pair.outcomes for pair in outcomes if pair.task == task}
        for record in kept:
            answers = [records.get(record.item) for records in by_label]
            results = [compared.get(other, {}).get(record.item) for other in range(1, len(evaluations))]
            items.append(
                {
                    "t": len(tasks),
                    "g": record.group,
                    "id": record.item,
                    "q": _cut(record.question),
                    "e": None if record.expected is None else _cut(record.expected),
                    "a": [None if each is None or each.answer is None else _cut(each.answer) for each in answers],
                    "c": [None if each is None or each.correct is None else int(each.correct) for each in answers],
                    "s": [_values(each, result.specs) for each in answers],
                    "w": [None if each is None else _SIGNS[each] for each in results],
                    "r": rank if math.isfinite(rank := quality(record, result.specs)) else -1e9,
                }
            )
        metrics = [{"title": title(name), "share": spec.share} for name, spec in result.specs.items()]
        tasks.append({"name": task, "metrics": metrics})
    payload = {"labels": [evaluation.label for evaluation in evaluations], "tasks": tasks, "items": items}
    return ItemList(_as_script(payload), len(items), [str(task["name"]) for task in tasks], omissions)


def _as_script(payload: Mapping[str, object]) -> Markup:
    """JSON that no text in it can end as a script element, or begin another within."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escaped in _UNSAFE.items():
        text = text.replace(character, escaped)
    return Markup(text)


def _by_item(evaluation: Evaluation, task: str) -> dict[str, Record]:
    result = evaluation.results.get(task)
    return {record.item: record for record in result.records} if result else {}


def _texts(record: Record) -> tuple[str, ...]:
    return record.question, record.expected or "", record.answer or ""


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"


def _values(record: Record | None, specs: Mapping[str, MetricSpec]) -> list[float | None]:
    """One item's value by metric, in the order of the specifications."""
    values: list[float | None] = []
    for name in specs:
        numerator, denominator = record.observations.get(name, (0.0, 0.0)) if record else (0.0, 0.0)
        known = denominator > 0 and math.isfinite(numerator / denominator)
        values.append(float(f"{numerator / denominator:.5g}") if known else None)
    return values
