"""`resonance checkpoints`: lists the runs, sorted and filtered by their scores, and broken ones with the reason."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from resonance import paths
from resonance.checkpoint import MODEL_FILE, Checkpoint, run_folders
from resonance.cli.score_selection import (
    RecordedScore,
    check_names,
    parse_conditions,
    recorded_scores,
    sorted_by,
)
from resonance.errors import ResonanceError
from resonance.hydra_config import ConfigError, compose
from resonance.model_config import PRESETS, GPT2Config


@dataclass(frozen=True, slots=True)
class Entry:
    """One run's folder; a broken one has no checkpoint but a problem."""

    name: str
    folder: Path
    bytes: int  # of all files, training state and logs included
    changed_at: datetime  # of the weights, or of the folder where there are none
    checkpoint: Checkpoint | None
    problem: str | None = None
    scores: Mapping[str, RecordedScore] = field(default_factory=dict[str, RecordedScore])  # by dotted name


def main(overrides: list[str]) -> None:
    """Print the runs as a table, or as JSON with `json=true`; see `configs/checkpoints.yaml`."""
    config = compose("checkpoints", overrides)
    root = paths.CHECKPOINTS if config.root is None else Path(str(config.root))
    entries = list_entries(root)
    there_are_runs = bool(entries)
    entries, chosen = select(entries, sort=config.sort, order=config.order, where=config.where)
    console = Console()
    if config.json:
        print(json.dumps([as_json(entry) for entry in entries], indent=2, ensure_ascii=False))
    elif entries:
        console.print(table(entries, chosen, now=datetime.now(UTC)))
        for entry in entries:
            if entry.problem is not None:
                console.print(Text(f"{entry.name}: {entry.problem}", style="red"), soft_wrap=True)
    elif there_are_runs:
        console.print(f"No run meets where={config.where}.", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"There is no checkpoint in {root} yet; make one with `resonance train`.", soft_wrap=True)


def list_entries(root: Path) -> list[Entry]:
    """Every run's folder under `root`, newest first, broken ones too."""
    entries = [_entry(folder) for folder in run_folders(root)]
    return sorted(entries, key=lambda entry: entry.changed_at, reverse=True)


def select(
    entries: Sequence[Entry], *, sort: str | None, order: str | None, where: object
) -> tuple[list[Entry], list[str]]:
    """The entries that meet all conditions of `where`, sorted by a score, and the names of the scores used.

    Broken entries have no score, so conditions leave them out and sorting puts them last. Raises ConfigError for an
    unknown `order`, and ScoreSelectionError for a score that no entry has.
    """
    if order not in (None, "ascending", "descending"):
        raise ConfigError(f"order must be ascending or descending, not {order!r}.")
    conditions = parse_conditions(where)
    chosen: list[str] = [sort] if sort else []
    chosen += [name for name in dict.fromkeys(condition.score for condition in conditions) if name != sort]
    if entries:
        check_names(chosen, [entry.scores for entry in entries])
    kept = [entry for entry in entries if all(condition.holds(entry.scores) for condition in conditions)]
    return (sorted_by(kept, sort, lambda entry: entry.scores, order=order) if sort else kept), chosen


def table(entries: Sequence[Entry], chosen: Sequence[str] = (), *, now: datetime) -> Table:
    """The table of runs, without the problems of broken ones.

    Scores that were `chosen` have a column each, with intervals, instead of each task's main score.
    """
    columns = Table()
    for heading in ("name", "model", "data", "steps", *(chosen or ["scores"]), "size", "age"):
        number = heading in ("steps", "size", "age")
        columns.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for entry in entries:
        size, age = Text(decimal(entry.bytes)), Text(_age(now, entry.changed_at))
        if entry.checkpoint is None:
            columns.add_row(
                Text(entry.name), Text("broken", style="red"), None, None, *([None] * max(1, len(chosen))), size, age
            )
            continue
        metadata = entry.checkpoint.metadata
        columns.add_row(
            Text(entry.name),
            Text(_model(entry.checkpoint)),
            Text(metadata.data or "–"),
            Text(f"{metadata.steps:,}"),
            *(
                [Text(str(entry.scores.get(name, "–"))) for name in chosen]
                if chosen
                else [Text(_scores(metadata.scores))]
            ),
            size,
            age,
        )
    return columns


def as_json(entry: Entry) -> dict[str, object]:
    """One run as JSON for other programs; a broken one has a `problem` and no metadata."""
    common: dict[str, object] = {
        "name": entry.name,
        "folder": str(entry.folder),
        "bytes": entry.bytes,
        "changed_at": f"{entry.changed_at:%Y-%m-%dT%H:%M:%SZ}",
        "problem": entry.problem,
    }
    if entry.checkpoint is None:
        return common
    metadata = entry.checkpoint.metadata
    return common | {
        "model": model_name(entry.checkpoint.config),
        "base": metadata.base,
        "template": metadata.template,
        "data": metadata.data,
        "steps": metadata.steps,
        "tokens_seen": metadata.tokens_seen,
        "trained_length": metadata.trained_length,
        "scores": metadata.scores,
    }


def model_name(config: GPT2Config) -> str:
    """The name of the preset with these sizes, else layers x width (`3x48`)."""
    for name, preset in PRESETS.items():
        if (preset.n_layer, preset.n_embd) == (config.n_layer, config.n_embd):
            return name
    return f"{config.n_layer}x{config.n_embd}"


def _entry(folder: Path) -> Entry:
    weights = folder / MODEL_FILE
    changed = datetime.fromtimestamp((weights if weights.is_file() else folder).stat().st_mtime, UTC)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    checkpoint, problem = None, None
    try:
        checkpoint = Checkpoint.open(folder)
        _ = checkpoint.config  # reads the weights' header, so a truncated file fails here
    except ResonanceError as error:
        checkpoint, problem = None, str(error)
    scores = recorded_scores(checkpoint) if checkpoint is not None else {}
    return Entry(folder.name, folder, size, changed, checkpoint, problem, scores)


def _model(checkpoint: Checkpoint) -> str:
    base = checkpoint.metadata.base
    return model_name(checkpoint.config) + (f", from {Path(base).name}" if base else ", from scratch")


def _scores(tasks: dict[str, dict[str, object]]) -> str:
    """Each task's first score, its main one."""
    lines: list[str] = []
    for task, scores in tasks.items():
        for name, score in scores.items():
            match score:
                case {"value": float() | int() as value}:
                    title = task if name == task else f"{task} {name.replace('_', ' ')}"
                    lines.append(f"{title} {value:.4g}")
                    break
                case _:
                    continue
    return "\n".join(lines) or "–"


def _age(now: datetime, then: datetime) -> str:
    """The time since `then`, in the largest whole unit."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
