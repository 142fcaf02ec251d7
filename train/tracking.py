"""Experiment tracking with Weights & Biases, which needs neither a key nor a network."""

import os
from collections.abc import Sequence
from pathlib import Path

import wandb
from lightning.pytorch.loggers import WandbLogger


def wandb_logger(*, folder: Path, name: str, project: str, entity: str | None, tags: Sequence[str]) -> WandbLogger:
    """A logger that keeps its files in the run's folder; off line where no WANDB_API_KEY is set."""
    online = bool(os.environ.get("WANDB_API_KEY"))
    run = wandb.init(
        project=project,
        entity=entity,
        name=name,
        id=name,
        tags=list(tags),
        dir=folder,
        mode="online" if online else "offline",
        resume="allow" if online else None,
        settings=wandb.Settings(silent=True, console="off"),
    )
    if online and run.url:  # the served model's card links to it
        (folder / "wandb" / "url.txt").write_text(run.url + "\n", encoding="utf-8")
    return WandbLogger(experiment=run)
