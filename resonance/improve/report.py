"""`improve.html`: what an attempt learned from, what changed, what it cost, and why it was promoted or not."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from resonance.atomic_files import write_text_atomically
from resonance.improve.journal import Attempt
from resonance.improve.scores import Answers, Compared, read_answers
from resonance.report.charts import SERIES, key_mark, marker, percent
from resonance.report.curves import curve_chart, read_curves
from resonance.report.page import page_policy, stylesheet

REPORT_FILE = "improve.html"
SHOWN = 60  # answers of each kind
_STAGES = {
    "gather": "Gather feedback",
    "check": "Enough?",
    "train": "Train",
    "evaluate": "Evaluate old and new",
    "gate": "Gate",
    "promote": "Verify and promote",
}
_VERDICTS = {
    "promoted": "Promoted",
    "ready": "Passed the gate, not promoted on request",
    "refused": "Not promoted",
    "nothing": "Nothing to do",
    "abandoned": "Abandoned",
}


def write_report(attempt: Attempt, candidate: Path | None) -> Path:
    """Write the page of an attempt into its folder, atomically and readable by the user alone; returns its path.

    `candidate` is the trained run's folder, None for an attempt that trained nothing.
    """
    path = attempt.folder / REPORT_FILE
    write_text_atomically(path, report_page(attempt, candidate), mode=0o600)
    return path


def report_page(attempt: Attempt, candidate: Path | None) -> str:
    """The page's text."""
    style = stylesheet()
    stages: Mapping[str, Any] = attempt.values["stages"]
    gathered, evaluated = stages.get("gather", {}), stages.get("evaluate", {})
    outcome = attempt.outcome or {"outcome": "abandoned", "sentence": "This attempt is under way."}
    before, _ = attempt.production
    answers: list[Answers] = []
    if (attempt.folder / "held_out" / "eval.json").is_file() and "held_out" in evaluated:
        answers = read_answers(attempt.folder / "held_out", before, "instruct")
    checks = stages.get("gate", stages.get("check", {})).get("checks", [])
    return (
        _environment()
        .get_template("improve.html")
        .render(
            heading=f"{attempt.values['alias']}: {_VERDICTS[str(outcome['outcome'])].lower()}",
            lead=f"{attempt.name}, from {before} · begun {attempt.values['started_at']}",
            policy=page_policy(style),
            style=Markup(style),
            sentence=outcome["sentence"],
            verdict=outcome["outcome"],
            tiles=_tiles(stages, answers),
            checks=checks,
            learns=stages.get("check", {}).get("learns", ""),
            counts=_counts(gathered),
            left_out=sorted(gathered.get("left_out", {}).items(), key=lambda pair: -pair[1]),
            groups=_groups(answers),
            marks=[key_mark(series) for series in (1, 0)],
            names=(before, attempt.name),
            standing=[_row(Compared.from_json(each)) for each in evaluated.get("standing", [])],
            earlier=[_row(Compared.from_json(each)) for each in evaluated.get("earlier", [])],
            figures=[] if candidate is None else _figures(candidate),
            cost=_cost(stages),
        )
    )


def _tiles(stages: Mapping[str, Any], answers: Sequence[Answers]) -> list[tuple[str, str, str]]:
    gathered = stages.get("gather", {})
    tiles = [
        ("Newly judged answers", f"{gathered.get('new', 0):,}", f"{gathered.get('judgements', 0):,} judgements"),
        (
            "To learn from",
            f"{gathered.get('examples', 0):,}",
            f"examples, {gathered.get('pairs', 0):,} pairs, {gathered.get('thumbs', 0):,} thumbs without a correction",
        ),
        ("Held out", f"{gathered.get('held_out', 0):,}", "answers that training never saw"),
    ]
    held_out = [Compared.from_json(each) for each in stages.get("evaluate", {}).get("held_out", [])]
    if held_out:
        one = next((each for each in held_out if each.metric == "exact_match"), held_out[0])
        before = "?" if one.before is None else f"{one.before:.1%}"
        tiles.append(
            ("Right on held-out feedback", f"{one.after:.1%}", f"{before} before; {100 * one.difference:+.1f} points")
        )
        tiles.append(("p-value", f"{one.p:.3g}", f"paired, two-sided, n = {one.n}"))
        won = sum(each.after_right and not each.before_right for each in answers)
        lost = sum(each.before_right and not each.after_right for each in answers)
        tiles.append(("Won and lost", f"{won} : {lost}", "answers that became right, and wrong"))
    return tiles


def _counts(gathered: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, int]]]]:
    titles = {"splits": "By split and kind", "origins": "By what people did", "owners": "By owner",
              "answered_by": "By the checkpoint that answered"}  # fmt: skip
    counts: Mapping[str, Mapping[str, int]] = gathered.get("counts", {})
    return [(title, list(counts[key].items())) for key, title in titles.items() if counts.get(key)]


def _groups(answers: Sequence[Answers]) -> list[tuple[str, int, Sequence[Answers]]]:
    """The held-out questions by what became of them: title, number, and the answers to show."""
    groups = [
        ("Won: wrong before, right now", [each for each in answers if each.after_right and not each.before_right]),
        ("Lost: right before, wrong now", [each for each in answers if each.before_right and not each.after_right]),
        ("Still wrong", [each for each in answers if not each.before_right and not each.after_right]),
        ("Right before and now", [each for each in answers if each.before_right and each.after_right]),
    ]
    return [(title, len(found), found[:SHOWN]) for title, found in groups if found]


def _row(one: Compared) -> dict[str, object]:
    """One score for the table, with a plot of both values where it is a share."""
    share = one.before is not None and 0 <= one.before <= 1 and 0 <= one.after <= 1 and one.higher_is_better
    form = "{:.1%}" if share else "{:.4g}"
    scale = 100 if share else 1
    low, high = one.ci95
    return {
        "name": f"{one.task}.{one.metric}",
        "before": "–" if one.before is None else form.format(one.before),
        "after": form.format(one.after),
        "difference": f"{scale * one.difference:+.3g}",
        "interval": f"{scale * low:+.3g} to {scale * high:+.3g}",
        "p": f"{one.p:.3g}",
        "n": one.n,
        "style": "worse" if one.worse else "better" if one.gain > 0 and one.p < 0.05 else "even",
        "plot": _plot((one.before, one.after)) if share else "",
    }


def _plot(values: Sequence[float | None]) -> Markup:
    """Before and after as marks on an axis from 0 to 100%."""
    parts = [f'<line class="rule" x1="{x}%" x2="{x}%" y1="0" y2="14"/>' for x in (0, 50, 100)]
    parts += [
        marker(series % SERIES, percent(value), 7)
        for series, value in zip((1, 0), values, strict=True)
        if value is not None
    ]
    return Markup(f'<svg class="intervals" aria-hidden="true" height="14">{"".join(parts)}</svg>')


def _figures(candidate: Path) -> list[dict[str, object]]:
    curves = {curve.name: curve for curve in read_curves(candidate)}
    found = [curves[name] for name in ("train/loss", "val/loss") if name in curves]
    return [curve_chart("Loss", found)] if found else []


def _cost(stages: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(_STAGES[name], _seconds([values])) for name, values in stages.items()]
    rows.append(("All stages", _seconds([*stages.values()])))
    if trained := stages.get("train"):
        rows.append(("Trained on", f"{trained['tokens']:,} tokens in {trained['steps']:,} steps, by "
                     f"{' and '.join(trained['objectives'])}"))  # fmt: skip
    for task, source in stages.get("evaluate", {}).get("reused", {}).items():
        rows.append((f"{task} before", f"reused: measured at {source['measured_at']}, in {source['from']}"))
    return rows


def _seconds(stages: Sequence[Mapping[str, Any]]) -> str:
    """How long stages took, and the processor worked, where that is known."""
    used = sum(stage.get("processor_seconds", 0) for stage in stages)
    return f"{sum(stage['seconds'] for stage in stages):,.1f} s" + (f", {used:,.1f} s of processor" if used else "")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
