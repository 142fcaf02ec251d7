"""Loggers of a run, with their files in its folder; a resumed run goes on in them and repeats no step."""

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import Tensor

from resonance.checkpoint import STATE_FILE
from resonance.hydra_config import ConfigError
from resonance.wandb_run import start_run
from train.checkpointing import read_state
from train.run_config import is_rank_zero

HPARAMS_FILE = "hparams.yaml"


def wandb_logger(*, folder: Path, name: str, project: str, entity: str | None, tags: Sequence[str]) -> WandbLogger:
    """A logger of Weights & Biases; works without a key and without a network. Raises as `start_run`.

    Only rank 0 logs. W&B cannot take back what was logged after the saved step of a killed run, so `MetricsCSV` and
    `Samples` do not log those steps again.
    """
    if not is_rank_zero():
        return WandbLogger(project=project, name=name)  # other ranks' loggers do nothing
    return WandbLogger(experiment=start_run(folder=folder, name=name, project=project, entity=entity, tags=tags))


def csv_logger(*, folder: Path, name: str) -> CSVLogger:
    """Lightning's CSV logger in `csv/`. Rows after the saved step of a resumed run are removed."""
    logger = CSVLogger(folder, name="csv", version="", flush_logs_every_n_steps=1)
    if not is_rank_zero():
        return logger
    path = folder / "csv" / "metrics.csv"
    rows: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    last = _saved_step(folder)
    for row in rows:
        if int(row["step"]) <= last:  # the logger begins a new file
            values: dict[str, Tensor | float] = {
                key: float(value) for key, value in row.items() if key != "step" and value
            }
            logger.log_metrics(values, int(row["step"]))
    return logger


def tensorboard_logger(*, folder: Path, name: str) -> TensorBoardLogger:
    """A logger of TensorBoard in `tensorboard/`. What followed the saved step of a resumed run is no longer shown.

    Raises ConfigError where TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError("logger=tensorboard needs TensorBoard: pip install 'resonance[tensorboard]'.")
    resumed = (folder / STATE_FILE).is_file()
    if resumed and is_rank_zero():
        (folder / "tensorboard" / HPARAMS_FILE).unlink(missing_ok=True)  # written only where there is none
    purge: dict[str, Any] = {"purge_step": _saved_step(folder) + 1} if resumed else {}
    return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False, **purge)


def _saved_step(folder: Path) -> int:
    """The step that a resumed run goes on from; 0 for a new one."""
    state = folder / STATE_FILE
    return read_state(state).step if state.is_file() else 0
