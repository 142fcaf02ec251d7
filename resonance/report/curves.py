"""The curves of a training run, from its `metrics.csv`."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resonance.report.charts import Line, Point, line_chart, nice_ticks

METRICS_FILE = "metrics.csv"
_MOST_POINTS = 400  # of a curve
_MOST_MARKERS = 40  # of a curve; more would hide it
_MOST_READINGS = 100  # of a chart
_LOG_FROM = 10.0  # the ratio of a curve's extremes from which its axis is logarithmic


@dataclass(frozen=True, slots=True)
class Curve:
    """One column of `metrics.csv` over optimiser steps: (step, value) in order."""

    name: str
    points: Sequence[tuple[int, float]]


def read_curves(folder: Path) -> list[Curve]:
    """All columns of a run's `metrics.csv` by step; none without such a file, or for rows that cannot be read."""
    path = folder / METRICS_FILE
    columns: dict[str, dict[int, float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                step = _number(row.get("step"))
                if step is None:
                    continue
                for name, text in row.items():
                    value = _number(text)
                    if name != "step" and value is not None:
                        columns.setdefault(str(name), {})[int(step)] = value
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [Curve(name, sorted(values.items())) for name, values in columns.items()]


def curve_chart(title: str, curves: Sequence[Curve], *, percent: bool = False) -> dict[str, object]:
    """A figure of curves that share an axis: `title`, `subtitle`, `chart` (SVG) and the `labels` of its key.

    `percent` shows shares as percentages. The axis of losses whose extremes differ much is logarithmic.
    """
    values = [value for curve in curves for _, value in curve.points]
    steps = sorted({step for curve in curves for step, _ in curve.points})
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= _LOG_FROM and "loss" in title.lower()
    bottom = low if logarithmic else min(0.0, low)

    def text(value: float) -> str:
        return f"{100 * value:.3g}%" if percent else number_text(value)

    last = [f"{curve.name} {text(curve.points[-1][1])}" for curve in curves]
    chart = line_chart(
        [
            Line(curve.name, [Point(float(x), y) for x, y in drawn], series, markers=len(drawn) <= _MOST_MARKERS)
            for series, curve in enumerate(curves)
            if (drawn := _thinned(curve.points))
        ],
        description=f"{title} over {len(steps)} logged steps; at the end {', '.join(last)}",
        x_ticks=[(float(step), f"{step:,.0f}") for step in nice_ticks(steps[0], steps[-1], 5)],
        y_range=(bottom, high if high > bottom else bottom + 1),
        y_text=text,
        logarithmic=logarithmic,
        readings=_readings(curves, text),
    )
    scale = ", logarithmic" if logarithmic else ""
    end = "" if len(curves) > 1 else f"; at the end {text(curves[0].points[-1][1])}"
    return {"title": title, "subtitle": f"by optimiser step{scale}{end}", "chart": chart, "labels": last}


def number_text(value: float) -> str:
    """A number in four digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _readings(curves: Sequence[Curve], text: Callable[[float], str]) -> list[tuple[float, str]]:
    """The values at the logged steps, of the last of several steps where there are many."""
    found: dict[int, list[str]] = {}
    for curve in curves:
        for step, value in curve.points:
            found.setdefault(step, []).append(f"{curve.name} {text(value)}")
    steps = sorted(found)
    shown = steps[:: -math.ceil(len(steps) / _MOST_READINGS)][::-1]
    return [(float(step), "\n".join([f"step {step:,}", *found[step]])) for step in shown]


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `_MOST_POINTS` points: means over equally many neighbours; the last point stays as it is."""
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return [*points]
    groups = [points[start : start + size] for start in range(0, len(points) - 1, size)]
    means = [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
    return [*(mean for mean in means if mean[0] != points[-1][0]), points[-1]]
