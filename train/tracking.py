"""Experiment tracking with Weights & Biases; works without a key and without a network."""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger

from resonance.wandb_run import start_run
from train.run_config import is_rank_zero


def wandb_logger(*, folder: Path, name: str, project: str, entity: str | None, tags: Sequence[str]) -> WandbLogger:
    """A logger with its files in the run's folder; only rank 0 logs. Raises as `start_run`."""
    if not is_rank_zero():
        return WandbLogger(project=project, name=name)  # other ranks' loggers do nothing
    return WandbLogger(experiment=start_run(folder=folder, name=name, project=project, entity=entity, tags=tags))
