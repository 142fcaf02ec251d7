"""`report.html`: the scores as one self-contained page."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from eval.evaluate import Evaluation, ScoreRow
from eval.report.charts import bar_chart
from eval.report.table import format_difference, format_score, row_texts, section_title, title, verdict
from eval.tasks.base import Record

_MISTAKES_PER_FAMILY = 3

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --line: #d9dee7; --page: #fff;
        --a: #3b6fd8; --b: #a9b4c6; --c: #d8963b; --d: #5aa17f; --e: #8a63c9; --f: #c75b7a;
        --good: #1a7f4b; --bad: #b93a32; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaf0; --soft: #98a2b3; --line: #333c4d; --page: #151a23; --a: #7aa2f7; --b: #5c6880;
          --good: #5fc18f; --bad: #ef7f76; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.text { white-space: pre-wrap; overflow-wrap: anywhere; }
tr.group th { color: var(--ink); padding-top: 1rem; }
.better { color: var(--good); } .worse { color: var(--bad); } .even, p.note { color: var(--soft); }
svg { width: 100%; height: auto; font-size: 12px; } svg text { fill: var(--ink); }
svg .tick { fill: var(--soft); font-size: 10px; }
.grid { stroke: var(--line); } .whisker { stroke: var(--ink); opacity: .6; }
.series-0 { fill: var(--a); background: var(--a); } .series-1 { fill: var(--b); background: var(--b); }
.series-2 { fill: var(--c); background: var(--c); } .series-3 { fill: var(--d); background: var(--d); }
.series-4 { fill: var(--e); background: var(--e); } .series-5 { fill: var(--f); background: var(--f); }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin: 0 .3rem 0 1rem; }
""".strip()


def html_report(facts: Mapping[str, str], evaluations: Sequence[Evaluation], rows: Sequence[ScoreRow]) -> str:
    """The page: `facts` about the evaluation, scores, bars by family, answers and mistakes."""
    heading = f"Evaluation of {evaluations[0].label}"
    labels = [evaluation.label for evaluation in evaluations]
    notes = [
        f"{evaluation.label}: {note}"
        for evaluation in evaluations
        for result in evaluation.results.values()
        for note in result.notes
    ] + [
        f"{evaluation.label}: {task} did not run: {result.error}"
        for evaluation in evaluations
        for task, result in evaluation.results.items()
        if result.error is not None
    ]
    body = [
        f"<h1>{escape(heading)}</h1>",
        _table((), ([_cell(name), _cell(value)] for name, value in facts.items())),
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        "<h2>Scores</h2>",
        _score_table(labels, rows),
        *_charts(labels, rows),
        *_samples(evaluations),
        *_mistakes(evaluations[0]),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>\n{_STYLE}\n</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _score_table(labels: Sequence[str], rows: Sequence[ScoreRow]) -> str:
    heads = [_cell("score", tag="th"), _cell("n", "number", tag="th"), _cell(labels[0], "number", tag="th")]
    for label in labels[1:]:
        heads += [_cell(label, "number", tag="th"), _cell("lead over it", "number", tag="th")]
    lines: list[list[str]] = []
    section = None
    for row in rows:
        if (row.task, row.group) != section:
            section = (row.task, row.group)
            lines.append([f'<th colspan="{len(heads)}">{escape(section_title(row))}</th>'])
        name, *numbers = row_texts(row)
        cells = [_cell(name), *(_cell(number, "number") for number in numbers)]
        for score, difference in zip(row.scores[1:], row.differences, strict=True):
            cells.append(_cell(format_score(score, share=row.share), "number"))
            cells.append(_cell(format_difference(difference, share=row.share), f"number {verdict(row, difference)}"))
        lines.append(cells)
    note = (
        "In brackets: 95% intervals (Wilson for exact matches, else a bootstrap over items). Leads are "
        "paired by item, with McNemar's or the bootstrap's p-value; families' are adjusted (Holm)."
    )
    return _table(heads, lines) + f'<p class="note">{note}</p>'


def _charts(labels: Sequence[str], rows: Sequence[ScoreRow]) -> list[str]:
    """One chart per group of shares."""
    parts: list[str] = []
    groups = {(row.task, row.group): section_title(row) for row in rows if row.group is not None and row.share}
    keys = "".join(f'<span class="key series-{i}"></span>{escape(label)}' for i, label in enumerate(labels))
    for group in sorted(groups, key=str):
        chart = bar_chart([row for row in rows if (row.task, row.group) == group], labels, title=groups[group])
        parts.append(f"<h2>{escape(groups[group])}</h2>\n<p>{keys}</p>\n{chart}")
    return parts


def _samples(evaluations: Sequence[Evaluation]) -> list[str]:
    """All checkpoints' answers to prompts without an expected answer, side by side."""
    parts: list[str] = []
    for task, result in evaluations[0].results.items():
        asked = [record for record in result.records if record.answer is not None and record.expected is None]
        if not asked:
            continue
        heads = [_cell("prompt", tag="th"), *(_cell(each.label, tag="th") for each in evaluations)]
        answers = [{record.item: record.answer for record in each.results[task].records} for each in evaluations]
        lines = [
            [_cell(record.question, "text"), *(_cell(given.get(record.item) or "", "text") for given in answers)]
            for record in asked
        ]
        parts.append(f"<h2>{escape(title(task))}</h2>\n" + _table(heads, lines))
    return parts


def _mistakes(evaluation: Evaluation) -> list[str]:
    """A few wrong answers per family."""
    parts: list[str] = []
    for task, result in evaluation.results.items():
        chosen = list(_first_mistakes(result.records))
        if chosen:
            heads = [_cell(head, tag="th") for head in ("family", "question", "answer", "expected")]
            lines = [
                [
                    _cell(each.group or ""),
                    *(_cell(text or "", "text") for text in (each.question, each.answer, each.expected)),
                ]
                for each in chosen
            ]
            parts.append(f"<h2>{escape(title(task))}: some mistakes</h2>\n" + _table(heads, lines))
    return parts


def _first_mistakes(records: Iterable[Record]) -> Iterable[Record]:
    seen: dict[str | None, int] = {}
    wrong = sorted((each for each in records if each.correct is False), key=lambda each: each.group or "")
    for each in wrong:
        seen[each.group] = seen.get(each.group, 0) + 1
        if seen[each.group] <= _MISTAKES_PER_FAMILY:
            yield each


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = f"<thead><tr>{''.join(heads)}</tr></thead>" if heads else ""
    body = "\n".join(f"<tr{_group(cells)}>{''.join(cells)}</tr>" for cells in lines)
    return f'<div class="scroll"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


def _group(cells: Sequence[str]) -> str:
    return ' class="group"' if len(cells) == 1 else ""


def _cell(text: str, classes: str = "", *, tag: str = "td") -> str:
    attribute = f' class="{classes}"' if classes else ""
    return f"<{tag}{attribute}>{escape(text)}</{tag}>"
