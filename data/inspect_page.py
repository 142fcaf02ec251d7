"""Renders the statistics and examples of `resonance data` as one HTML page without further files or scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data.example_view import ExampleView, visible
from data.statistics import DataStatistics
from data.statistics_table import notes, summary_rows

_TEMPLATES = Path(__file__).parent / "templates"


def html_page(measured: DataStatistics, split: str, shown: Sequence[tuple[str, ExampleView]]) -> str:
    """The page's text; `shown` are examples of `split` as title and view.

    A policy forbids everything but the page's own style, and all text is escaped.
    """
    style = (_TEMPLATES / "inspect.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    statistics = {name: part.statistics for name, part in measured.splits.items()}
    most = max((count for *_, count in statistics["train"].histogram), default=1)
    return environment.get_template("inspect.html").render(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=Markup(style),
        data=measured,
        split=split,
        names=list(statistics),
        rows=list(summary_rows(statistics, measured.row_length)),
        bars=[(low, high, count, 100 * count / most) for low, high, count in statistics["train"].histogram],
        notes=notes(measured),
        shown=shown,
        visible=visible,
    )
