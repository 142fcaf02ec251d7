"""The scores as a table in the terminal, and how the report writes numbers."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from eval.evaluate import Evaluation, ScoreRow
from eval.statistics import Difference, Score
from resonance.cli.chat import printable

SIGNIFICANT = 0.05

_MAX_ANSWER_CHARS = 240  # the HTML report has the whole answer
_STYLES = {"better": "green", "worse": "red", "even": "dim"}


def score_table(evaluations: Sequence[Evaluation], rows: Sequence[ScoreRow]) -> Table:
    """One row per score, groups below their task's scores; one column per checkpoint.

    Beside each other checkpoint is the first one's lead over it, green or red if significant, and the smallest lead
    that these items would show.
    """
    table = Table(title="Scores (95% intervals)", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    if len(evaluations) > 1:
        table.caption = "lead: paired difference, its p-value, and the difference found with 80% power on these items"
        table.caption_justify = "left"
    table.add_column("score")
    table.add_column("n", justify="right")
    table.add_column(evaluations[0].label, justify="right", overflow="fold")
    for evaluation in evaluations[1:]:
        table.add_column(evaluation.label, justify="right", overflow="fold")
        table.add_column("lead", justify="right")
    section = None
    for row in rows:
        if (row.task, row.group) != section:
            section = (row.task, row.group)
            table.add_section()
            table.add_row(Text(section_title(row), style="bold"))
        cells = [Text(text) for text in row_texts(row)]
        for score, difference in zip(row.scores[1:], row.differences, strict=True):
            cells.append(Text(format_score(score, share=row.share)))
            style = _STYLES[verdict(row, difference)]
            sees = "" if difference is None else f" {format_detectable(difference, share=row.share)}"
            cells.append(Text(format_difference(difference, share=row.share) + sees, style=style))
        table.add_row(*cells)
    return table


def answer_table(evaluation: Evaluation, task: str) -> Table:
    """One checkpoint's answers in a task."""
    table = Table(title=f"{evaluation.label}: {task}", title_justify="left", show_lines=True)
    table.add_column("question", overflow="fold", ratio=1)
    table.add_column("answer", overflow="fold", ratio=1)
    for record in evaluation.results[task].records:
        text = printable(record.answer or "")
        shortened = text if len(text) <= _MAX_ANSWER_CHARS else text[:_MAX_ANSWER_CHARS] + "…"
        table.add_row(Text(record.question), Text(shortened))
    return table


def section_title(row: ScoreRow) -> str:
    """The heading above a row: its task, and its group if any."""
    return row.task + (f", {title(row.group)}" if row.group else "")


def row_texts(row: ScoreRow) -> tuple[str, str, str]:
    """A row's first cells: the metric, the number of items, and the first evaluation's score."""
    first = row.scores[0]
    name = title(row.name) if row.group is None else row.name
    return name, str(first.n) if first else "–", format_score(first, share=row.share)


def verdict(row: ScoreRow, difference: Difference | None) -> str:
    """`better` or `worse` if the first evaluation differs significantly from another, else `even`."""
    if difference is None or difference.p >= SIGNIFICANT or difference.value == 0:
        return "even"
    return "better" if (difference.value > 0) == row.higher_is_better else "worse"


def title(name: str) -> str:
    """A metric's name as a title."""
    return name.replace("_", " ")


def format_score(score: Score | None, *, share: bool) -> str:
    """A value with its interval; a dash without observations."""
    if score is None:
        return "–"
    low, high = score.ci95
    return f"{format_value(score.value, share=share)} ({_number(low, share)}–{_number(high, share)})"


def format_difference(difference: Difference | None, *, share: bool) -> str:
    """A signed difference (of shares: in percentage points) and its p-value."""
    if difference is None:
        return "–"
    sign = "-" if difference.value < 0 else "+"
    p = "p<.001" if difference.p < 0.001 else f"p={difference.p:.3f}".replace("=0.", "=.")
    return f"{sign}{_number(abs(difference.value), share)} {p}"


def format_detectable(difference: Difference, *, share: bool) -> str:
    """The minimum detectable effect: `sees 3.2`."""
    return "sees none" if difference.detectable is None else f"sees {_number(difference.detectable, share)}"


def format_value(value: float, *, share: bool) -> str:
    """A share in percent; any other value with four significant digits, or as an integer if large."""
    return f"{_number(value, share)}%" if share else _number(value, share)


def _number(value: float, share: bool) -> str:
    if share:
        return f"{100 * value:.1f}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
