"""Experiment tracking with Weights & Biases, which needs neither a key nor a network."""

import os
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(*, folder: Path, name: str, project: str, entity: str | None, tags: Sequence[str]) -> WandbLogger:
    """A logger that keeps its files in the run's folder; off line where no WANDB_API_KEY is set."""
    os.environ.setdefault("WANDB_SILENT", "true")
    return WandbLogger(
        project=project,
        entity=entity,
        name=name,
        id=name,
        resume="allow",
        tags=list(tags),
        save_dir=str(folder),
        offline="WANDB_API_KEY" not in os.environ,
    )
