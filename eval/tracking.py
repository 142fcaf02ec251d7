"""Sends scores to the Weights & Biases run that a checkpoint was trained in."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from eval import EvalError
from eval.results import Scores
from eval.statistics import ScoreJson
from resonance.checkpoint import Checkpoint
from resonance.metadata import LAST_FOLDER

_FOLDER = "wandb"  # in a run's folder
_LOGGER = ".wandb_logger"  # the end of a logger's `_target_` in train.yaml


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """The W&B run of a checkpoint, by its own folder, name, project and entity."""

    folder: Path
    name: str
    project: str
    entity: str | None


def check_setting(checkpoint: Checkpoint, setting: object) -> None:
    """Raise EvalError for a value of `wandb` other than auto, true, false, and for true without a tracked run."""
    if not isinstance(setting, bool) and setting != "auto":
        raise EvalError(f"wandb must be auto, true or false, not {setting!r}.")
    if setting is True and _tracked_run(checkpoint) is None:
        raise EvalError(
            f"wandb=true needs a run that was trained with logger=wandb, and {checkpoint.name} was not; leave it out."
        )


def send_scores(checkpoint: Checkpoint, scores: Mapping[str, Scores], setting: object) -> str | None:
    """Write the scores into the summary of the checkpoint's W&B run; returns a sentence about it, None without one.

    The setting `auto` sends them if the run was tracked and WANDB_API_KEY or WANDB_MODE is set, `true` always, `false`
    never. A score is `test/<task>.<metric>`, beside the ends of its interval.
    """
    if setting is False or (setting == "auto" and not any(map(os.environ.get, ("WANDB_API_KEY", "WANDB_MODE")))):
        return None
    tracked = _tracked_run(checkpoint)
    return None if tracked is None else _send(tracked, dict(_flat(scores)))


def _send(tracked: TrackedRun, values: Mapping[str, float]) -> str:
    import wandb  # takes a second, and is needed here only

    from resonance.wandb_run import start_run

    try:
        run = start_run(folder=tracked.folder, name=tracked.name, project=tracked.project, entity=tracked.entity)
    except wandb.Error as error:
        return f"W&B did not take the scores: {str(error).splitlines()[0]}"
    if run.disabled:
        return "WANDB_MODE=disabled: W&B did not get the scores."
    run.summary.update(dict(values))
    url, folder = run.url, tracked.folder / _FOLDER
    run.finish()
    return f"W&B: {url}" if url else f"W&B: {folder} has the scores; wandb sync {folder}/offline-run-* sends them."


def _tracked_run(checkpoint: Checkpoint) -> TrackedRun | None:
    """The run's project and name; None where it was not tracked. The folder `last` belongs to the run above it."""
    try:
        config = yaml.safe_load(checkpoint.train_yaml() or "{}")
    except yaml.YAMLError:
        return None
    if not isinstance(config, dict) or not isinstance(loggers := config.get("logger"), dict):
        return None
    folder = checkpoint.folder.parent if checkpoint.folder.name == LAST_FOLDER else checkpoint.folder
    if not any((folder / _FOLDER).glob("*run-*")):
        return None
    for node in loggers.values():
        if isinstance(node, dict) and str(node.get("_target_")).endswith(_LOGGER):
            name, entity = config.get("run") or folder.name, node.get("entity")
            return TrackedRun(folder, str(name), str(node.get("project")), None if entity is None else str(entity))
    return None


def _flat(scores: Mapping[str, Scores]) -> Iterator[tuple[str, float]]:
    """Every score of every task, those of groups included, with its interval."""
    for task, of_task in scores.items():
        for name, score in of_task.items():
            if "value" in score:
                inner = {name: cast(ScoreJson, score)}
            else:
                inner = {f"{name}.{key}": each for key, each in score.items()}
            for key, each in inner.items():
                low, high = each["ci95"]
                yield f"test/{task}.{key}", each["value"]
                yield f"test/{task}.{key}.low", low
                yield f"test/{task}.{key}.high", high
