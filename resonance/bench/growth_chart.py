"""A picture of `what=growth`: tokens a second over the tokens before the answer, a panel for each batch."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from markupsafe import Markup, escape

from resonance.atomic_files import write_text_atomically
from resonance.bench.runner import Measurements
from resonance.report.charts import HEIGHT, SERIES, Line, Point, line_chart, marker

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00")  # Okabe and Ito's, the last darkened
WIDTH, MARGIN, KEY_LINE = 760, 70, 20  # pixels
PANEL = HEIGHT + 90


def write_picture(path: Path, measured: Sequence[Measurements]) -> None:
    """Write the growth figures among `measured` as one SVG file."""
    growth = [figures for figures in measured if figures.job.what == "growth"]
    names = list(dict.fromkeys(_name(figures) for figures in growth))
    batches = sorted({figures.job.batch for figures in growth})
    key_height = KEY_LINE * -(-len(names) // 3) + 10
    parts = [
        f'<g transform="translate({MARGIN + index % 3 * 220} {18 + index // 3 * KEY_LINE})">'
        f'{marker(index, "0", 0)}<text x="12" y="4">{escape(name)}</text></g>'
        for index, name in enumerate(names)
    ]
    for panel, batch in enumerate(batches):
        top = key_height + panel * PANEL + 30
        chart = _panel([figures for figures in growth if figures.job.batch == batch], names)
        parts.append(
            f'<text x="{MARGIN}" y="{top - 10}" class="title">batch {batch}: tokens/s over tokens before the answer'
            "</text>"
            f'<svg x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{HEIGHT + 26}" overflow="visible">'
            f"{chart}</svg>"
        )
    height = key_height + PANEL * len(batches)
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
        f'<style>{_style()}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
    write_text_atomically(path, text)


def _panel(growth: Sequence[Measurements], names: Sequence[str]) -> Markup:
    lines: list[Line] = []
    for series, name in enumerate(names):
        own = sorted((f for f in growth if _name(f) == name), key=lambda figures: figures.job.prompt_tokens)
        points = [
            Point(f.job.prompt_tokens, median(f.rates), min(f.rates), max(f.rates), f"{name}: {median(f.rates):.0f}")
            for f in own
        ]
        if points:
            lines.append(Line(name, points, series, markers=True))
    contexts = sorted({figures.job.prompt_tokens for figures in growth})
    highest = max(max(figures.rates) for figures in growth)
    return line_chart(
        lines,
        description="tokens a second over the tokens before the answer",
        x_ticks=[(float(context), f"{context}") for context in contexts],
        y_range=(0.0, highest),
        y_text=lambda value: f"{value:,.0f}",
    )


def _name(figures: Measurements) -> str:
    return f"{figures.program} {figures.precision}"


def _style() -> str:
    colours = "".join(
        f".fill-{index}{{fill:{colour}}}.stroke-{index}{{stroke:{colour}}}"
        for index, colour in enumerate(COLOURS[:SERIES])
    )
    return (
        "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600}"
        ".rule{stroke:#ddd}.whisker{stroke-width:2}"
        "svg{overflow:visible}.curve{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}"
        f".dashed{{stroke-dasharray:6 4}}{colours}"
    )
