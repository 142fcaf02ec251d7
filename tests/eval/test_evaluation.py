"""Comparison of scores, and their table."""

from io import StringIO

import numpy as np
from rich.console import Console

from eval.evaluate import Evaluation, Result, compare
from eval.report.table import answer_table, score_table, verdict
from eval.tasks.base import MetricSpec, Record


def record(place: int, match: float, half: int) -> Record:
    return Record(str(place), {"exact_match": (match, 1.0)}, group="one" if place < half else "two")


def evaluation(label: str, matches: list[float], records: tuple[Record, ...] = ()) -> Evaluation:
    records = records or tuple(record(place, match, len(matches) // 2) for place, match in enumerate(matches))
    specs = {"exact_match": MetricSpec("proportion", share=True, by_group=True)}
    return Evaluation(label, "fp32", {"quiz": Result(specs, records)})


def with_metric(label: str, spec: MetricSpec, pairs: list[tuple[float, float]]) -> Evaluation:
    records = tuple(Record(str(place), {"m": pair} if pair[1] else {}) for place, pair in enumerate(pairs))
    return Evaluation(label, "fp32", {"t": Result({"m": spec}, records)})


def shown(*renderables: object) -> str:
    console = Console(width=160, file=StringIO())
    with console.capture() as capture:
        console.print(*renderables)
    return capture.get()


def test_rows_hold_every_score_and_the_first_ones_lead() -> None:
    rows = compare([evaluation("a", [1, 1, 1, 0]), evaluation("b", [0, 1, 0, 0])])
    assert [(row.group, row.name) for row in rows] == [
        (None, "exact_match"),
        ("by_family", "one"),
        ("by_family", "two"),
    ]
    overall = rows[0]
    assert [score.value for score in overall.scores if score] == [0.75, 0.25]
    assert overall.differences[0] is not None
    assert (overall.differences[0].value, overall.differences[0].p) == (0.5, 0.5)  # 2 to 0 is 2 / 2^2


def test_families_p_values_are_adjusted_for_their_number() -> None:
    right, wrong = [1.0] * 16, [0.0] * 16
    rows = compare([evaluation("a", right), evaluation("b", wrong)])
    by_family = [row.differences[0].p for row in rows[1:] if row.differences[0]]
    assert by_family == [2 * 2 / 2**8] * 2


def test_what_one_side_could_not_observe_is_a_dash() -> None:
    spec = MetricSpec("ratio")
    both = [with_metric("a", spec, [(1.0, 1.0), (2.0, 1.0)]), with_metric("b", spec, [(0.0, 0.0), (0.0, 0.0)])]
    (row,) = compare(both)
    assert row.scores[1] is None
    assert row.differences == (None,)
    assert "–" in shown(score_table(both, [row]))


def test_only_what_is_significant_is_better_or_worse() -> None:
    all_right, nearly, none = [1.0] * 20, [1.0] * 19 + [0.0], [0.0] * 20
    for ours, theirs, expected in (
        (all_right, nearly, "even"),
        (all_right, none, "better"),
        (none, all_right, "worse"),
    ):
        row = compare([evaluation("a", ours), evaluation("b", theirs)])[0]
        assert verdict(row, row.differences[0]) == expected


def test_less_perplexity_is_better() -> None:
    rng = np.random.default_rng(0)
    nats, spec = rng.uniform(1, 2, 50), MetricSpec("perplexity", higher_is_better=False)
    low, high = ([(float(value) + more, 1.0) for value in nats] for more in (0, 1))
    (row,) = compare([with_metric("a", spec, low), with_metric("b", spec, high)])
    assert verdict(row, row.differences[0]) == "better"


def test_a_models_text_is_no_terminal_command() -> None:
    attack = Record("1", {"exact_match": (0.0, 1.0)}, question="ask", answer="\x1b[2J[red]x", correct=False)
    one = evaluation("label", [], (attack,))
    assert "\x1b" not in (text := shown(answer_table(one, "quiz")))
    assert "[2J[red]x" in text
