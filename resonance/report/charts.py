"""Charts as inline SVG without scripts or further files.

Horizontal positions are percentages and text has a size in pixels, so that a chart fits any width and stays readable.
The page's CSS classes `fill-0`, `stroke-0`, ... colour the series.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

SERIES = 6  # colours; further series repeat them
HEIGHT = 190  # pixels of a line chart's plot
_DOT = 4.5  # pixels
_SHIFT = 5  # pixels between the marks of two series at one position


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a line chart, with the bounds of its interval if it has one, and its text when pointed at."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a line chart; `series` chooses its colour and marker, `markers` shows each point.

    Points with an interval are set apart from those of other series, so that their whiskers do not cover each other.
    """

    label: str
    points: Sequence[Point]
    series: int = 0
    markers: bool = False


def marker(series: int, x: str, y: float) -> str:
    """A series' mark: circle, square, ring, hollow square, so that colour is not needed to tell them apart."""
    colour, shape = series % SERIES, series % 4
    style = f'class="fill-{colour}"' if shape < 2 else f'class="stroke-{colour}" fill="none" stroke-width="2"'
    if shape % 2 == 0:
        return f'<circle {style} cx="{x}" cy="{y:g}" r="{_DOT if shape == 0 else _DOT - 1:g}"/>'
    size = 2 * _DOT - 1 if shape == 1 else 2 * _DOT - 2
    centred = f'y="{y - size / 2:g}" width="{size:g}" height="{size:g}" transform="translate({-size / 2:g})"'
    return f'<rect {style} x="{x}" {centred}/>'


def key_mark(series: int) -> Markup:
    """The mark of a series in a chart's key."""
    line = f'<line class="stroke-{series % SERIES} whisker" x1="1" x2="21" y1="6" y2="6"/>'
    return Markup(f'<svg aria-hidden="true" viewBox="0 0 22 12">{line}{marker(series, "11", 6)}</svg>')


def line_chart(
    lines: Sequence[Line],
    *,
    description: str,
    x_ticks: Sequence[tuple[float, str]],
    y_range: tuple[float, float],
    y_text: Callable[[float], str],
    logarithmic: bool = False,
    readings: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Lines over a common horizontal axis; points with an interval have a whisker.

    `x_ticks` are positions and their texts; the first and the last, and all points, are within the axis. `readings`
    are positions in order, each with the text that shows when the chart is pointed at there.
    """
    xs = [point.x for line in lines for point in line.points] + [position for position, _ in x_ticks]
    left, right = min(xs), max(xs)
    scale: Callable[[float], float] = math.log10 if logarithmic else float
    bottom, top = scale(y_range[0]), scale(y_range[1])

    def x_of(x: float) -> float:
        return (x - left) / (right - left) if right > left else 0.5

    def y_of(y: float) -> float:
        share = (scale(max(y, y_range[0])) - bottom) / (top - bottom) if top > bottom else 0.5
        return round((1 - min(1.0, share)) * HEIGHT, 1)

    parts: list[str] = []
    for tick in log_ticks(*y_range) if logarithmic else nice_ticks(*y_range):
        y = y_of(tick)
        parts.append(f'<line class="rule" x1="0" x2="100%" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<text x="-8" y="{y + 4:g}" text-anchor="end">{escape(y_text(tick))}</text>')
    for position, label in x_ticks:
        x = percent(x_of(position))
        parts.append(f'<text x="{x}" y="{HEIGHT + 18}" text-anchor="middle">{escape(label)}</text>')
    for line in lines:
        colour = line.series % SERIES
        path = " ".join(f"{1000 * x_of(point.x):.4g},{y_of(point.y):g}" for point in line.points)
        parts.append(
            f'<svg width="100%" height="{HEIGHT}" viewBox="0 0 1000 {HEIGHT}" preserveAspectRatio="none">'
            f'<polyline class="curve stroke-{colour}{" dashed" if line.series % 2 else ""}" points="{path}"/></svg>'
        )
        apart = any(point.low is not None for point in line.points)
        shift = _SHIFT * (line.series - (len(lines) - 1) / 2) if apart else 0.0
        parts += [_mark(point, line.series, x_of(point.x), y_of, shift) for point in line.points if line.markers]
    parts += _readings([(x_of(x), text) for x, text in readings])
    label = escape(description)
    return Markup(f'<svg class="lines" role="img" aria-label="{label}" height="{HEIGHT + 26}">{"".join(parts)}</svg>')


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from `low` to `high`; only the powers where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0,) if len(powers) > 4 else (1.0, 2.0, 5.0)
    ticks = [float(f"{factor * 10.0**power:.12g}") for power in powers for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def _mark(point: Point, series: int, share: float, y_of: Callable[[float], float], shift: float) -> str:
    x = percent(share)
    whisker = ""
    if point.low is not None and point.high is not None:
        colour = series % SERIES
        whisker = (
            f'<line class="whisker stroke-{colour}" x1="{x}" x2="{x}" y1="{y_of(point.low):g}" '
            f'y2="{y_of(point.high):g}"/>'
        )
    mark = marker(series, x, y_of(point.y))
    return f'<g transform="translate({shift:g})"><title>{escape(point.title)}</title>{whisker}{mark}</g>'


def _readings(readings: Sequence[tuple[float, str]]) -> list[str]:
    """Columns over the plot, each from halfway to the position before it to halfway to the one after it."""
    edges = [0.0, *((one + other) / 2 for (one, _), (other, _) in pairwise(readings)), 1.0]
    return [
        f'<rect class="reading" x="{percent(start)}" width="{percent(end - start)}" height="{HEIGHT}">'
        f"<title>{escape(text)}</title></rect>"
        for (start, end), (_, text) in zip(pairwise(edges), readings, strict=False)
    ]


def percent(share: float) -> str:
    """A horizontal position."""
    return f"{100 * min(1.0, max(0.0, share)):.4g}%"
