"""The overlap of items with the training data, as a table of texts for both reports."""

from collections.abc import Mapping

from eval.report.contents import Report
from eval.report.table import format_value, title

HEADS = ("task", "items that overlap", "scores of all items", "scores without them")


def overlap_rows(report: Report) -> list[list[str]]:
    """One row per task that was checked; the scores are the task's own, without groups."""
    rows: list[list[str]] = []
    for task, found in report.contamination.items():
        own = [row for row in report.rows if row.task == task and row.group is None]
        untouched = found.get("untouched")
        without: list[str] = []
        for row in own:
            score = untouched.get(row.name) if isinstance(untouched, Mapping) else None
            value = score.get("value") if isinstance(score, Mapping) else None
            if isinstance(value, int | float):
                without.append(f"{title(row.name)} {format_value(float(value), share=row.share)}")
        of_all = [
            f"{title(row.name)} {format_value(first.value, share=row.share)}" for row in own if (first := row.scores[0])
        ]
        touched = f"{found.get('touched')} of {found.get('items')} (by {found.get('ngram')} words in a row)"
        rows.append([task, touched, "; ".join(of_all), "; ".join(without) or "–"])
    return rows
