"""The curves of a training run, from its `metrics.csv`."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resonance.report.charts import Line, Point, line_chart, nice_ticks

METRICS_FILE = "metrics.csv"
_MOST_POINTS = 400  # of a curve
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
    return [Curve(name, _thinned(sorted(values.items()))) for name, values in columns.items()]


def curve_chart(title: str, curves: Sequence[Curve]) -> dict[str, object]:
    """A figure of curves that share an axis: `title`, `subtitle`, `chart` (SVG) and the `labels` of its key."""
    values = [value for curve in curves for _, value in curve.points]
    steps = [step for curve in curves for step, _ in curve.points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= _LOG_FROM and title.lower().endswith("loss")
    last = ", ".join(f"{curve.name} {curve.points[-1][1]:.4g}" for curve in curves)
    ticks = [(float(step), f"{step:,.0f}") for step in nice_ticks(min(steps), max(steps), 5)]
    chart = line_chart(
        [
            Line(curve.name, [Point(float(step), value) for step, value in curve.points], series)
            for series, curve in enumerate(curves)
        ],
        description=f"{title} over {len(set(steps))} logged steps; at the end {last}",
        x_ticks=ticks,
        y_range=(low if logarithmic else min(0.0, low), high if high > low else low + 1),
        y_text=lambda value: f"{value:.4g}",
        logarithmic=logarithmic,
    )
    scale = ", logarithmic" if logarithmic else ""
    subtitle = f"by optimiser step{scale}; at the end {last}"
    return {"title": title, "subtitle": subtitle, "chart": chart, "labels": [curve.name for curve in curves]}


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
