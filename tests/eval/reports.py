"""Reports made by hand, for the tests of what a reader sees."""

from collections.abc import Sequence
from datetime import UTC, datetime

from eval.evaluate import Evaluation, Result, compare
from eval.report.contents import Report
from eval.tasks.base import MetricSpec, Record

SPECS = {
    "exact_match": MetricSpec("proportion", share=True, by_group=True),
    "token_f1": MetricSpec("mean", share=True),
}


def quiz_record(place: int, right: bool, *, answer: str | None = None, overlap: float | None = None) -> Record:
    """Question number `place`: families take turns, and questions and answers get longer."""
    expected = f"answer {'x' * place}"
    return Record(
        f"item-{place:03}",
        {"exact_match": (float(right), 1.0), "token_f1": (float(right) if overlap is None else overlap, 1.0)},
        group=("sums", "capitals", "colours")[place % 3],
        question=f"Question {place}? {'y' * place}",
        answer=answer if answer is not None else (expected if right else f"mistake {place}"),
        expected=expected,
        correct=right,
    )


def quiz(label: str, results: Sequence[bool]) -> Evaluation:
    """An evaluation of one task, `quiz`, with a question per result."""
    records = tuple(quiz_record(place, right) for place, right in enumerate(results))
    return Evaluation(label, "fp32", {"quiz": Result(SPECS, records)})


def report(*evaluations: Evaluation, **more: object) -> Report:
    """The report of these evaluations."""
    return Report(
        evaluations[0].label,
        datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        {"Data": "basics"},
        evaluations,
        compare(evaluations),
        **more,  # pyright: ignore[reportArgumentType]
    )
