"""The scores as a table in the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from eval.evaluate import Evaluation, Row
from eval.report import format
from resonance.cli.chat import printable

_SHOWN = 240  # characters of an answer; the report has all of it
_STYLES = {"better": "green", "worse": "red", "even": "dim"}


def score_table(evaluations: Sequence[Evaluation], rows: Sequence[Row]) -> Table:
    """One row a score, families below their task's scores; one column a checkpoint.

    Beside each other checkpoint stands the first one's lead over it, green or red where it is significant.
    """
    table = Table(title="Scores (95% intervals)", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("score")
    table.add_column("n", justify="right")
    table.add_column(evaluations[0].label, justify="right", overflow="fold")
    for evaluation in evaluations[1:]:
        table.add_column(evaluation.label, justify="right", overflow="fold")
        table.add_column("lead", justify="right")
    heading = None
    for row in rows:
        if (row.task, row.group) != heading:
            heading = (row.task, row.group)
            table.add_section()
            table.add_row(Text(row.task + (f", {format.title(row.group)}" if row.group else ""), style="bold"))
        table.add_row(*_cells(row))
    return table


def answer_table(evaluation: Evaluation, task: str) -> Table:
    """One checkpoint's answers in a task, for reading."""
    table = Table(title=f"{evaluation.label}: {task}", title_justify="left", show_lines=True)
    table.add_column("question", overflow="fold", ratio=1)
    table.add_column("answer", overflow="fold", ratio=1)
    for answer in evaluation.results[task].answers:
        table.add_row(Text(answer.question), Text(_short(answer.answer)))
    return table


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _cells(row: Row) -> list[Text]:
    first = row.scores[0]
    cells = [
        Text(format.title(row.name) if row.group is None else row.name),
        Text(str(first.n) if first else "–"),
        Text(format.score(first, share=row.share)),
    ]
    for score, lead in zip(row.scores[1:], row.leads, strict=True):
        cells.append(Text(format.score(score, share=row.share)))
        cells.append(Text(format.lead(lead, share=row.share), style=_STYLES[format.verdict(row, lead)]))
    return cells
