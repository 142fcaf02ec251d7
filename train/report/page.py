"""`train.html`: one page of a run without further files; it can be watched while the run trains."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf

from resonance.atomic_files import write_text_atomically
from resonance.report.charts import SERIES, key_mark
from resonance.report.curves import Curve, curve_chart
from resonance.report.page import page_policy, stylesheet
from train.callbacks.scores import VALIDATION_LOSS
from train.report.advice import advice
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
            samples=_samples(run.samples),
            facts=_facts(run, ended, total),
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
    for name, column, form in (
        ("training loss", "train/loss", "{:.4g}"),
        ("tokens per second", "tokens_per_s", "{:,.0f}"),
        ("of the machine's peak", "mfu", "{:.1%}"),
    ):
        if column in run.curves:
            values = sorted(value for _, value in run.curves[column].points)
            median = values[len(values) // 2]
            shown, remark = (median, "median") if column != "train/loss" else (run.last(column), "last logged step")
            tiles.append((name, form.format(shown), remark))
    if (memory := run.last("peak_memory_mb")) is not None:
        tiles.append(("peak memory", f"{memory / 1000:.2f} GB", "of one process"))
    return tiles


def _figures(curves: Mapping[str, Curve]) -> list[dict[str, object]]:
    sources = tuple(name for name in curves if name.startswith(f"{VALIDATION_LOSS}/"))
    groups = [*FIGURES[:1], ("Validation loss of each source", sources), *FIGURES[1:]]
    known = {name for _, names in groups for name in names}
    groups += [(name, (name,)) for name in curves if name not in known and name not in _HIDDEN]
    present = [(title, [curves[name] for name in names if name in curves]) for title, names in groups]
    return [curve_chart(title, found) for title, found in present if found]


def _samples(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Each prompt with its answers over time."""
    by_prompt: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    for row in rows:
        by_prompt.setdefault((str(row["prompt"]), str(row["expected"])), []).append(row)
    return [
        {"prompt": prompt, "expected": expected, "answers": answers}
        for (prompt, expected), answers in by_prompt.items()
    ]


def _facts(run: RunRecord, ended: str, total: int | None) -> list[tuple[str, str]]:
    record, metadata, config = run.training, run.metadata, run.config
    seconds = record.get("duration_s")
    facts: list[tuple[str, object]] = [
        ("Command", record.get("command")),
        ("Started", record.get("started_at")),
        ("End", ended),
        ("Steps", f"{run.step:,}" + ("" if total is None else f" of {total:,}")),
        ("Data", metadata.get("data")),
        ("Fingerprint of the data", metadata.get("data_fingerprint")),
        ("Model", ", ".join(f"{key} {value}" for key, value in config.model.items() if isinstance(value, int))),
        ("Weights to start from", metadata.get("base") or "none, from scratch"),
        ("Adapter", json.dumps(metadata["adapter"]) if metadata.get("adapter") else None),
        ("Objective", record.get("objective")),
        ("Optimizer", _node(config, "optimizer")),
        ("Schedule", _node(config, "scheduler")),
        ("Batch", ", ".join(f"{key} {value}" for key, value in config.batch.items() if value is not None)),
        ("Micro-batches a step", config.trainer.accumulate_grad_batches),
        ("Seed", config.seed),
        ("Precision", record.get("precision")),
        ("Tokens", None if (tokens := run.last("tokens_seen")) is None else f"{tokens:,.0f}"),
        ("Time", None if seconds is None else f"{seconds / 60:,.1f} minutes"),
        ("Cost", _cost(run)),
        ("Hardware", _flat(record.get("hardware"))),
        ("Versions", _flat(record.get("versions"))),
        ("Git commit", metadata.get("git_commit")),
        ("Resumed", len(metadata.get("resumes") or []) or None),
    ]
    return [(name, str(value)) for name, value in facts if value is not None and value != ""]


def _cost(run: RunRecord) -> str | None:
    """Hours of devices, and their price if `callbacks.report.price_per_hour` says it."""
    seconds = run.training.get("duration_s")
    if seconds is None:
        return None
    hours = seconds / 3600 * int(run.training.get("world_size") or 1)
    unit = "GPU-hours" if run.training.get("accelerator") == "cuda" else "machine-hours"
    price = OmegaConf.select(run.config, "callbacks.report.price_per_hour")
    return f"{hours:,.3f} {unit}" + ("" if price is None else f", {hours * price:,.2f} at {price:g} an hour")


def _node(config: object, key: str) -> str:
    node = OmegaConf.to_container(OmegaConf.select(config, key) or OmegaConf.create({}))  # pyright: ignore[reportArgumentType]
    return _flat(
        {name: value for name, value in node.items() if not str(name).endswith("_") or name == "_target_"}
        if isinstance(node, dict)
        else None
    )


def _flat(values: object) -> str:
    if not isinstance(values, Mapping):
        return ""
    parts = [(str(name), value) for name, value in values.items() if value not in (None, [], "")]
    return ", ".join(
        str(value).rpartition(".")[2] if name == "_target_" else f"{name} {value}" for name, value in parts
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
