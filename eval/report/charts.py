"""Charts of scores as inline SVG, in the style of `resonance.report.charts`."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from eval.statistics import Score
from resonance.report.charts import SERIES, marker, percent

_LANE = 13  # pixels per series of an interval plot


def interval_plot(scores: Sequence[Score | None]) -> Markup:
    """Each series' value in [0, 1] as a mark on its 95% interval, one below the other on an axis from 0 to 100%."""
    height = _LANE * len(scores) + 3
    parts = [
        f'<line class="rule" x1="{x}%" x2="{x}%" y1="0" y2="{height}"/>' for x in (0, 25, 50, 75, 100)
    ]  # fmt: skip
    for series, score in enumerate(scores):
        if score is None:
            continue
        y = _LANE * series + _LANE / 2 + 1.5
        low, high = (percent(bound) for bound in score.ci95)
        parts.append(f'<line class="whisker stroke-{series % SERIES}" x1="{low}" x2="{high}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(marker(series, percent(score.value), y))
    return Markup(f'<svg class="intervals" aria-hidden="true" height="{height}">{"".join(parts)}</svg>')


def outcome_bar(parts: Sequence[tuple[str, int]], description: str) -> Markup:
    """Counts as parts of one bar; each has a CSS class and a number."""
    total = sum(count for _, count in parts) or 1
    start, bars = 0.0, list[str]()
    for name, count in parts:
        bars.append(f'<rect class="{name}" x="{percent(start)}" width="{percent(count / total)}" height="14"/>')
        start += count / total
    label = escape(description)
    return Markup(f'<svg class="intervals" role="img" aria-label="{label}" height="14">{"".join(bars)}</svg>')
