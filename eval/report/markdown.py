"""The report as Markdown, for pull requests: scores, comparisons, what did not run, provenance in short."""

from collections.abc import Iterable, Sequence

from eval.evaluate import ScoreRow
from eval.report.breakdowns import paired_outcomes
from eval.report.contents import Report
from eval.report.overlap import HEADS, overlap_rows
from eval.report.table import format_difference, format_score, format_value, row_texts, title

_SHORT_HASH = 12
_FIELDS = ("commit", "weights_sha256", "data_fingerprint", "dtype", "quantize", "seed", "limit", "command")


def markdown_report(report: Report) -> str:
    """The text; scores by family are in sections that GitHub folds."""
    parts = [f"# Evaluation of {_cell(report.checkpoint)}", f"{report.created_at:%Y-%m-%d %H:%M} UTC"]
    own = [row for row in report.rows if row.group is None]
    if own:
        parts += ["## Scores", _score_table(report, own)]
    if len(report.labels) > 1:
        parts.append(
            f"Differences are {_cell(report.labels[0])} minus the other, on the same items; “sees” is the smallest "
            "true difference that these items would show with 80% power."
        )
    parts += _groups(report)
    parts += _outcomes(report)
    if overlap := overlap_rows(report):
        parts += ["## Overlap with the training data", _table(HEADS, overlap)]
    if report.failures:
        parts += [
            "## What did not run",
            _bullets(f"{task}, {label}: {reason}" for task, label, reason in report.failures),
        ]
    if report.notes:
        parts += ["## Notes", _bullets(report.notes)]
    parts += ["## Provenance", _table(("", ""), [[name, value] for name, value in _provenance(report)])]
    return "\n\n".join(parts) + "\n"


def _score_table(report: Report, rows: Sequence[ScoreRow]) -> str:
    heads = ["task", "score", "n", report.labels[0]]
    for label in report.labels[1:]:
        heads += [label, "difference", "sees"]
    lines: list[list[str]] = []
    for row in rows:
        name, count, ours = row_texts(row)
        line = [row.task, name, count, ours]
        for score, difference in zip(row.scores[1:], row.differences, strict=True):
            sees = difference.detectable if difference else None
            line += [
                format_score(score, share=row.share),
                format_difference(difference, share=row.share),
                "–" if not sees else format_value(sees, share=row.share).removesuffix("%"),
            ]
        lines.append(line)
    return _table(heads, lines)


def _groups(report: Report) -> list[str]:
    """A folded table per group of scores."""
    groups: dict[tuple[str, str], list[ScoreRow]] = {}
    for row in report.rows:
        if row.group is not None:
            groups.setdefault((row.task, row.group), []).append(row)
    return [
        f"<details><summary>{_cell(f'{task}, {title(group)}')}</summary>\n\n{_score_table(report, rows)}\n\n</details>"
        for (task, group), rows in groups.items()
    ]


def _outcomes(report: Report) -> list[str]:
    pairs = paired_outcomes(report.evaluations)
    if not pairs:
        return []
    heads = ("task", "against", "both right", "won", "lost", "both wrong, or equal")
    lines = [
        [
            pair.task,
            report.labels[pair.other],
            str(pair.count("both")) if pair.graded else "–",
            *(str(pair.count(outcome)) for outcome in ("won", "lost", "neither")),
        ]
        for pair in pairs
    ]
    return ["## Wins and losses by item", _table(heads, lines)]


def _provenance(report: Report) -> list[tuple[str, str]]:
    """Facts about the checkpoint, and of the first task's provenance the fields that identify the evaluation."""
    facts = [(name, value) for name, value in report.facts.items()]
    first = next(iter(report.provenance.values()), {})
    for name in _FIELDS:
        if (value := first.get(name)) is not None:
            text = str(value)[:_SHORT_HASH] if name.endswith(("sha256", "fingerprint", "commit")) else str(value)
            facts.append((name.replace("_", " "), text))
    versions = ", ".join(
        f"{task} {entry['version']}" for task, entry in report.provenance.items() if "version" in entry
    )
    return [*facts, ("versions of tasks", versions)] if versions else facts


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_cell(sentence)}" for sentence in sentences)


def _cell(text: str) -> str:
    """Text that neither ends a cell nor is markup of Markdown or HTML."""
    for character in "\\|*_`[]#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.replace("<", "&lt;").replace(">", "&gt;").split())
