"""Bar charts as inline SVG, without scripts or further files."""

from collections.abc import Sequence
from html import escape

from eval.evaluate import ScoreRow
from eval.report.table import format_score, format_value

_LABEL, _WIDTH, _BAR, _GAP, _VALUE = 190, 460, 13, 12, 60  # pixels: label, 100%, bar, between rows, value


def bar_chart(rows: Sequence[ScoreRow], labels: Sequence[str], *, title: str) -> str:
    """One bar per row and checkpoint from 0 to 100%, with its 95% interval as a whisker.

    Rows must be shares. The page's CSS classes `series-0`, `series-1`, ... colour the bars.
    """
    step = _BAR * len(labels) + _GAP
    height = step * len(rows) + 24
    parts = [
        f'<svg role="img" viewBox="0 0 {_LABEL + _WIDTH + _VALUE} {height}" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        *(_grid_line(percent, height) for percent in (0, 25, 50, 75, 100)),
    ]
    for index, row in enumerate(rows):
        top = 20 + index * step
        middle = top + step / 2 - _GAP / 2 + 4
        parts.append(f'<text x="{_LABEL - 8}" y="{middle:g}" text-anchor="end">{escape(row.name)}</text>')
        parts.extend(_bar(row, series, top + series * _BAR) for series in range(len(labels)))
    return "\n".join([*parts, "</svg>"])


def _grid_line(percent: int, height: int) -> str:
    x = _LABEL + _WIDTH * percent / 100
    return (
        f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="16" y2="{height}"/>'
        f'<text class="tick" x="{x:g}" y="11" text-anchor="middle">{percent}%</text>'
    )


def _bar(row: ScoreRow, series: int, top: int) -> str:
    score = row.scores[series]
    if score is None:
        return ""
    end = _LABEL + _WIDTH * score.value
    low, high = (_LABEL + _WIDTH * bound for bound in score.ci95)
    y = top + (_BAR - 2) / 2
    return (
        f'<rect class="series-{series}" x="{_LABEL}" y="{top}" width="{end - _LABEL:.1f}" height="{_BAR - 2}">'
        f"<title>{escape(row.name)}: {format_score(score, share=True)}, n = {score.n}</title></rect>"
        f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
        f'<text class="tick" x="{high + 6:.1f}" y="{y + 3.5:g}">{format_value(score.value, share=True)}</text>'
    )
