"""Experiment tracking with Weights & Biases, which needs neither a key nor a network."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import httpx
import wandb
from lightning.pytorch.loggers import WandbLogger
from rich import get_console
from wandb.sdk.wandb_run import Run

from resonance.hydra_config import ConfigError
from train.resolve import is_leader

Mode = Literal["online", "offline", "disabled", "shared"]
MODES: tuple[Mode, ...] = ("online", "offline", "disabled", "shared")

REACH_TIMEOUT_S = 5.0  # for the server's first answer
INIT_TIMEOUT_S = 30.0  # for the server to accept the run


def wandb_logger(*, folder: Path, name: str, project: str, entity: str | None, tags: Sequence[str]) -> WandbLogger:
    """A logger that keeps its files in the run's folder; only rank 0 tracks.

    `WANDB_MODE` decides whether it is online; where it is not set, a `WANDB_API_KEY` does. A run that would be online
    is offline, and says so, where the server cannot be reached or does not accept the key.

    Raises ConfigError for a WANDB_MODE that does not exist.
    """
    mode = _mode()
    if not is_leader():
        return WandbLogger(project=project, name=name)  # other ranks' loggers do nothing
    if mode == "online" and (reason := _unreachable()):
        mode = _go_offline(folder, reason)

    def start(mode: Mode) -> Run:
        return wandb.init(
            project=project,
            entity=entity,
            name=name,
            id=name,
            tags=list(tags),
            dir=folder,
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_TIMEOUT_S),
        )

    try:
        run = start(mode)
    except wandb.Error as error:
        if mode != "online":
            raise
        run = start(_go_offline(folder, str(error).splitlines()[0]))
    if mode == "online" and run.url:  # the served model's card links to it
        (folder / "wandb" / "url.txt").write_text(run.url + "\n", encoding="utf-8")
    return WandbLogger(experiment=run)


def _mode() -> Mode:
    asked = os.environ.get("WANDB_MODE")
    if not asked:
        return "online" if os.environ.get("WANDB_API_KEY") else "offline"
    known = {"dryrun": "offline", "run": "online"} | {mode: mode for mode in MODES}  # wandb's older names
    for mode in MODES:
        if known.get(asked.lower()) == mode:
            return mode
    raise ConfigError(f"WANDB_MODE is {asked!r}; it must be one of {', '.join(MODES)}, or not be set.")


def _unreachable() -> str | None:
    """Why the W&B server does not answer; None where it does, whatever it answers."""
    server = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    try:
        httpx.head(server, timeout=REACH_TIMEOUT_S)
    except httpx.HTTPError as error:
        return f"{server}: {error or type(error).__name__}"
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"WANDB_BASE_URL is {server!r}, which is no URL ({error}).") from error
    return None


def _go_offline(folder: Path, reason: str) -> Mode:
    get_console().print(
        f"W&B cannot be used online ({reason}); the run is tracked offline: wandb sync {folder}/wandb/offline-run-* "
        "sends it later.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return "offline"
