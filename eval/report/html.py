"""The report: one HTML page without further files, so that it can be sent or archived.

The page carries a policy that forbids everything but its own style and script, so that nothing in a model's answer can
load or run anything. `templates/` holds the page and its script.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.anchors import anchors_for
from eval.report import views
from eval.report.breakdowns import Breakdown, by_length, by_turns, paired_outcomes
from eval.report.contents import Report
from eval.report.items import item_list
from eval.report.overlap import HEADS, overlap_rows
from eval.report.table import format_score, format_value
from resonance.report.charts import SERIES, Line, Point, key_mark, line_chart
from resonance.report.curves import Curve, curve_chart
from resonance.report.page import page_policy, stylesheet

_TEMPLATES = Path(__file__).parent / "templates"
_ELSEWHERE = ("settings", "metrics", "notes")  # fields of provenance that have a place of their own
_HASH, _SHORT_HASH = re.compile("[0-9a-f]{32,}"), 12


def html_report(report: Report) -> str:
    """The page's text."""
    outcomes = paired_outcomes(report.evaluations)
    items = item_list(report.evaluations, outcomes)
    indices = {task: index for index, task in enumerate(items.tasks)}
    style, script = stylesheet(), _file("report.js")
    view: dict[str, object] = {
        "heading": f"Evaluation of {report.checkpoint}",
        "lead": f"{report.created_at:%Y-%m-%d %H:%M} UTC · " + " · ".join(report.evaluations[0].results),
        "policy": page_policy(style, script),
        "style": Markup(style),
        "script": Markup(script),
        "labels": report.labels,
        "marks": [key_mark(series) for series in range(len(report.labels))],
        "marks_all": [key_mark(series) for series in range(SERIES)],
        "tiles": views.tiles(report),
        "notes": report.notes,
        "failures": report.failures,
        "scores": views.score_tables(report, parts=False),
        "parts": views.score_tables(report, parts=True),
        "figures": [
            _figure(breakdown, report.labels)
            for breakdown in (*by_turns(report.rows), *by_length(report.evaluations, seed=report.seed))
        ],
        "pairs": views.pair_tables(report, outcomes, indices),
        "pair_items": views.pair_items(report, outcomes),
        "extremes": views.extremes(report),
        "samples": views.samples(report),
        "items": items,
        "curves": _curves(report.curves),
        "contamination": _table("Overlap with the training data", HEADS, overlap_rows(report)),
        "anchors": _anchors(report),
        "facts": [*report.facts.items(), *_common_provenance(report)],
        "provenance": _provenance(report),
        "settings": _settings(report),
    }
    return _environment().get_template("report.html").render(view | {"sections": _sections(view)})


def _sections(view: Mapping[str, object]) -> list[tuple[str, str]]:
    """Anchor and name of each section that the page has."""
    has_items = bool(getattr(view["items"], "count", 0))
    there: Sequence[tuple[str, str, object]] = (
        ("scores", "Scores", True),
        ("parts", "Families", view["parts"]),
        ("lengths", "Turns and lengths", view["figures"]),
        ("pairs", "Wins and losses", view["pairs"]),
        ("answers", "Answers", view["extremes"] or view["samples"]),
        ("items", "All items", has_items),
        ("training", "Training", view["curves"]),
        ("contamination", "Contamination", view["contamination"]),
        ("published", "Published", view["anchors"]),
        ("provenance", "Provenance", True),
    )
    return [(anchor, name) for anchor, name, present in there if present]


def _figure(breakdown: Breakdown, labels: Sequence[str]) -> dict[str, object]:
    lines: list[Line] = []
    for series, label in enumerate(labels):
        points = [
            Point(x, score.value, *score.ci95, f"{label}, {text}: {format_score(score, share=True)}, n = {score.n}")
            for x, text, scores in breakdown.points
            if (score := scores[series]) is not None
        ]
        lines.append(Line(label, points, series, markers=True))
    described = "; ".join(
        f"{text}: " + ", ".join(format_score(score, share=True) for score in scores)
        for _, text, scores in breakdown.points
    )
    chart = line_chart(
        lines,
        description=f"{breakdown.title}. {described}",
        x_ticks=[(x, text) for x, text, _ in breakdown.points],
        y_range=(0.0, 1.0),
        y_text=lambda value: f"{100 * value:.0f}%",
    )
    return {"title": breakdown.title, "subtitle": breakdown.subtitle, "chart": chart}


def _curves(curves: Sequence[Curve]) -> list[dict[str, object]]:
    """Charts of losses, of the learning rate, and of each score measured during training."""
    by_name = {curve.name: curve for curve in curves}
    groups = [
        ("Loss", [by_name[name] for name in ("train/loss", "val/loss") if name in by_name]),
        ("Learning rate", [by_name["lr"]] if "lr" in by_name else []),
        *((name.removeprefix("eval/"), [curve]) for name, curve in by_name.items() if name.startswith("eval/")),
    ]
    return [curve_chart(title, [curve for curve in group if curve.points]) for title, group in groups if group]


def _anchors(report: Report) -> dict[str, object] | None:
    """The published figures of the scores that were measured."""
    rows: list[list[str]] = []
    for row in report.rows:
        for anchor in anchors_for(row.task, row.name, report.data) if row.group is None else ():
            value = format_value(anchor.value, share=anchor.share)
            if anchor.high is not None:
                value += f" to {format_value(anchor.high, share=anchor.share)}"
            rows.append([row.task, anchor.model, f"{anchor.metric}: {value}", anchor.protocol, anchor.source])
    return _table("Published figures", ("benchmark", "model", "published", "protocol", "source"), rows)


def _common_provenance(report: Report) -> list[tuple[str, str]]:
    """The fields of provenance that all tasks share."""
    entries = [*report.provenance.values()]
    return [
        (_field(name), _text(value))
        for name, value in (entries[0] if entries else {}).items()
        if name not in _ELSEWHERE and all(entry.get(name) == value for entry in entries)
    ]


def _provenance(report: Report) -> dict[str, object] | None:
    """The fields of provenance that differ by task."""
    common = {name for name, _ in _common_provenance(report)}
    names = dict.fromkeys(name for entry in report.provenance.values() for name in entry)
    own = [name for name in names if _field(name) not in common and name not in _ELSEWHERE]
    rows = [[task, *(_short(_text(entry.get(name))) for name in own)] for task, entry in report.provenance.items()]
    return _table("By task", ("task", *map(_field, own)), rows) if own else None


def _settings(report: Report) -> dict[str, object] | None:
    rows = [[task, _text(entry["settings"])] for task, entry in report.provenance.items() if entry.get("settings")]
    return _table("Settings", ("task", "settings"), rows)


def _short(text: str) -> str:
    """A hash by its first digits, which tell whether two are equal; `eval.json` has it whole."""
    return f"{text[:_SHORT_HASH]}…" if _HASH.fullmatch(text) else text


def _field(name: str) -> str:
    words = name.replace("sha256", "SHA-256").replace("_", " ")
    return words[:1].upper() + words[1:]


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, object] | None:
    return {"title": title, "heads": heads, "rows": rows} if rows else None


@cache
def _file(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
