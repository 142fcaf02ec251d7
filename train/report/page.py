"""`train.html`: one page of a run without further files; it can be watched while the run trains."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf

from data.example_view import visible
from resonance.atomic_files import write_text_atomically
from resonance.report.charts import SERIES, key_mark
from resonance.report.curves import Curve, curve_chart, number_text
from resonance.report.page import page_policy, stylesheet
from train.callbacks.scores import VALIDATION_LOSS
from train.report.advice import advice
from train.report.facts import changed_settings, cost_of, duration, facts_of
from train.report.run_record import RunRecord, read_run

REPORT_FILE = "train.html"
REFRESH_S = 30  # a page that is open reads itself again, while the run trains
FIGURES = (  # title, columns of metrics.csv
    ("Loss", ("train/loss", VALIDATION_LOSS)),
    ("Learning rate", ("lr",)),
    ("Gradient norm before clipping", ("grad_norm",)),
    ("Tokens per second", ("tokens_per_s",)),
    ("Share of the machine's peak (MFU)", ("mfu",)),
    ("Peak memory in MB", ("peak_memory_mb",)),
)
VALIDATION_ACCURACY = "val/reward_accuracy"
_HIDDEN = ("step", "epoch", "tokens_seen", "seconds")


def write_report(folder: Path, *, running: bool = False, total_steps: int | None = None) -> Path:
    """Write the report of a run's folder, atomically, from its files; returns its path.

    Raises OSError when the folder has no config or cannot be written to.
    """
    path = folder / REPORT_FILE
    write_text_atomically(path, train_page(read_run(folder), running=running, total_steps=total_steps))
    return path


def train_page(run: RunRecord, *, running: bool, total_steps: int | None) -> str:
    """The page's text."""
    style = stylesheet()
    ended = "running" if running else str(run.training.get("ended") or "unfinished")
    total = total_steps or _total(run)
    return (
        _environment()
        .get_template("train.html")
        .render(
            heading=f"Training of {run.name}",
            lead=_lead(run, ended, total),
            refresh=REFRESH_S if running else None,
            policy=page_policy(style),
            style=Markup(style),
            tiles=_tiles(run),
            advice=advice(run, ended, total),
            figures=_figures(run.curves),
            marks=[key_mark(series) for series in range(SERIES)],
            validations=_validations(run.curves),
            samples=_samples(run.samples),
            visible=visible,
            facts=facts_of(run, ended, total),
            changed=changed_settings(run),
            settings=OmegaConf.to_yaml(run.config),
        )
    )


def _lead(run: RunRecord, ended: str, total: int | None) -> str:
    of = "" if total is None else f" of {total:,}"
    return f"{ended} · step {run.step:,}{of} · written {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _total(run: RunRecord) -> int | None:
    steps = OmegaConf.select(run.config, "trainer.max_steps")
    epochs = OmegaConf.select(run.config, "trainer.max_epochs")
    return int(steps) if steps is not None and epochs is None else None


def _tiles(run: RunRecord) -> list[tuple[str, str, str]]:
    """Name, value and remark of each headline number."""
    tiles: list[tuple[str, str, str]] = []
    if VALIDATION_LOSS in run.curves:
        points = run.curves[VALIDATION_LOSS].points
        step, best = min(points, key=lambda point: point[1])
        tiles.append(("validation loss", f"{points[-1][1]:.4g}", f"lowest {best:.4g} at step {step:,}"))
    if (loss := run.last("train/loss")) is not None:
        tiles.append(("training loss", f"{loss:.4g}", "last logged step"))
    if (accuracy := run.last(VALIDATION_ACCURACY)) is not None:
        tiles.append(("reward accuracy", f"{accuracy:.1%}", "of the validation pairs or votes"))
    step, tokens = run.progress
    if tokens:
        tiles.append(("tokens", f"{tokens:,}", f"in {step:,} steps"))
    if run.seconds is not None:
        tiles.append(("time", duration(run.seconds), cost_of(run) or "so far"))
    for name, column, form in (
        ("tokens per second", "tokens_per_s", "{:,.0f}"),
        ("of the machine's peak (MFU)", "mfu", "{:.1%}"),
    ):
        if column in run.curves:
            values = sorted(value for _, value in run.curves[column].points)
            tiles.append((name, form.format(values[len(values) // 2]), "median"))
    if (memory := run.last("peak_memory_mb")) is not None:
        tiles.append(("peak memory", f"{memory / 1000:.2f} GB", "of one process"))
    if run.parameters is not None:
        tiles.append(("parameters", _millions(run.parameters), str(run.training.get("precision") or "")))
    return tiles


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 100_000 else f"{count:,}"


def _figures(curves: Mapping[str, Curve]) -> list[dict[str, object]]:
    sources = tuple(name for name in curves if name.startswith(f"{VALIDATION_LOSS}/"))
    groups = [*FIGURES[:1], ("Validation loss of each source", sources), *FIGURES[1:]]
    known = {name for _, names in groups for name in names}
    further: dict[str, list[str]] = {}  # a metric of training and the same of validation share a figure
    for name in curves:
        if name not in known and name not in _HIDDEN:
            further.setdefault(name.removeprefix("train/").removeprefix("val/"), []).append(name)
    groups += [(name.replace("_", " ").capitalize(), tuple(names)) for name, names in further.items()]
    present = [(title, [curves[name] for name in names if name in curves]) for title, names in groups]
    return [
        curve_chart(title, found, percent="mfu" in title.lower() or "accuracy" in title.lower())
        for title, found in present
        if found
    ]


def _validations(curves: Mapping[str, Curve]) -> dict[str, object] | None:
    """A table of the losses and scores at each validation, which charts do not say to a keyboard or on paper."""
    names = [name for name in curves if name == "train/loss" or name.startswith(("val/", "eval/"))]
    columns = [dict(curves[name].points) for name in names]
    steps = sorted({step for name in names if name != "train/loss" for step, _ in curves[name].points})
    rows = [
        (f"{step:,}", [number_text(column[step]) if step in column else "" for column in columns]) for step in steps
    ]
    return {"names": names, "rows": rows} if rows else None


def _samples(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Each prompt with its answers over time."""
    by_prompt: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    for row in rows:
        by_prompt.setdefault((str(row["prompt"]), str(row["expected"])), []).append(row)
    return [
        {"prompt": prompt, "expected": expected, "answers": answers}
        for (prompt, expected), answers in by_prompt.items()
    ]


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
