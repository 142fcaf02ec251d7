"""Runs of Weights & Biases, without ever waiting for its server: offline without a key or where it does not answer."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import httpx
import wandb
from rich import get_console
from wandb.sdk.wandb_run import Run

from resonance.hydra_config import ConfigError

Mode = Literal["online", "offline", "disabled", "shared"]
MODES: tuple[Mode, ...] = ("online", "offline", "disabled", "shared")

REACH_TIMEOUT_S = 5.0  # for the server's first response
INIT_TIMEOUT_S = 30.0  # for the server to accept the run


def start_run(*, folder: Path, name: str, project: str, entity: str | None, tags: Sequence[str] = ()) -> Run:
    """Start the run of that name, or go on with it, with its files in `folder`/wandb.

    `WANDB_MODE` sets the mode. Without it, the run is online if `WANDB_API_KEY` is set. An online run falls back to
    offline, with a message, if the server cannot be reached or rejects the key.

    Raises ConfigError for an unknown WANDB_MODE.
    """
    mode = _mode()
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
    return run


def _mode() -> Mode:
    value = os.environ.get("WANDB_MODE")
    if not value:
        return "online" if os.environ.get("WANDB_API_KEY") else "offline"
    known = {"dryrun": "offline", "run": "online"} | {mode: mode for mode in MODES}  # wandb's older names
    for mode in MODES:
        if known.get(value.lower()) == mode:
            return mode
    raise ConfigError(f"WANDB_MODE is {value!r}; it must be one of {', '.join(MODES)}, or not be set.")


def _unreachable() -> str | None:
    """Why the W&B server does not respond; None if it responds, with any status."""
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
