"""Builds Lightning's Trainer, callbacks and loggers from a run's config."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from data.module import SFTDataModule
from resonance.hydra_config import ConfigError, make, nearest
from train import fsdp
from train.callbacks.validation import ValidationSchedule, total_steps
from train.checkpointing import AtomicCheckpointIO
from train.precision import resolve_accelerator, resolve_deterministic, resolve_precision

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}

# Arguments of Lightning's Trainer that a config cannot set, and the alternative.
RESERVED = {
    "callbacks": "add a node to callbacks",
    "logger": "add a node to logger",
    "plugins": "the run's states need the plugin that is there",
    "default_root_dir": "set checkpoints_dir and run",
    "enable_checkpointing": "set save.every_n_steps",
    "enable_progress_bar": "set callbacks.progress",
    "enable_model_summary": "the run prints its size",
    "val_check_interval": "set trainer.val_every_n_steps",
    "check_val_every_n_epoch": "set trainer.val_every_n_steps",
    "num_sanity_val_steps": "set trainer.val_every_n_steps",
    "min_epochs": "set trainer.max_epochs",
    "min_steps": "set trainer.max_steps",
    "limit_train_batches": "set trainer.max_steps",
    "overfit_batches": "set data.train_size, or name a smaller file",
    "fast_dev_run": "set trainer.max_steps=1",
    "reload_dataloaders_every_n_epochs": "the data is read once",
    "use_distributed_sampler": "rows are dealt to the processes already",
    "gradient_clip_algorithm": "gradients are clipped by norm",
}


def make_trainer(
    *,
    folder: Path,
    callbacks: Sequence[Callback],
    data: SFTDataModule,
    max_steps: int | None,
    max_epochs: int | None,
    accumulate_grad_batches: int,
    val_every_n_steps: int | None,
    accelerator: str,
    precision: str,
    deterministic: bool | str,
    profiler: str | Profiler | None,
    strategy: str | Strategy,
    **lightning: object,
) -> Trainer:
    """The Trainer of a run on `data` that writes into `folder`. Raises ConfigError for arguments Lightning rejects."""
    _check_arguments(lightning)
    accelerator = resolve_accelerator(accelerator)
    deterministic = resolve_deterministic(deterministic, accelerator)
    torch.backends.mkldnn.deterministic = bool(deterministic)  # Lightning's flag does not reach oneDNN
    # Deterministic algorithms would also write NaN into every new buffer, logits included, to help debugging.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]  # torch sets it on the module's class
    arguments: dict[str, object] = {
        "max_epochs": -1,  # for Lightning a run is one endless epoch
        "accumulate_grad_batches": accumulate_grad_batches,
        "val_check_interval": sys.maxsize,  # ValidationSchedule decides
        "check_val_every_n_epoch": None,
        "accelerator": accelerator,
        "strategy": fsdp.FSDP2Strategy() if strategy == fsdp.NAME else strategy,
        "precision": (name := resolve_precision(precision, accelerator)),
        "deterministic": deterministic,
        "profiler": _profiler(profiler, folder),
        "logger": False,
        "callbacks": list(callbacks),
        "plugins": [AtomicCheckpointIO()],
        "num_sanity_val_steps": 0,
        "inference_mode": strategy != fsdp.NAME,  # weights that are gathered in it could not be trained after it
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    # TF32 for what mixed precision leaves in float32; 32-true computes in float32 as it says.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = "mixed" in name
    try:
        trainer = Trainer(**{**lightning, **arguments})  # pyright: ignore[reportArgumentType]  # Lightning checks them
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"Lightning cannot do what trainer.* asks for: {reason}") from error
    data.trainer = trainer  # has the number of processes that share an epoch
    trainer.accumulate_grad_batches = accumulate_grad_batches * data.shares.parts
    trainer.fit_loop.epoch_loop.max_steps = total_steps(
        max_steps=max_steps,
        max_epochs=max_epochs,
        epoch_length=data.epoch_length,
        accumulate=trainer.accumulate_grad_batches,
    )
    trainer.callbacks = [ValidationSchedule(val_every_n_steps, data.epoch_length), *trainer.callbacks]  # pyright: ignore[reportAttributeAccessIssue]  # as Lightning itself sets them
    return trainer


def make_callbacks(config: DictConfig) -> list[Callback]:
    """The callbacks of a config's `callbacks`, without null and false nodes.

    Raises ConfigError for a node that is no callback.
    """
    made = [(f"callbacks.{name}", make(node)) for name, node in _nodes(config, "callbacks", "callback").items()]
    for key, callback in made:
        if callback is not None and not isinstance(callback, Callback):
            raise ConfigError(f"{key} must be a Lightning callback, not {type(callback).__name__}.")
    return [callback for _, callback in made if callback is not None]


def make_loggers(config: DictConfig, folder: Path, name: str) -> list[Logger]:
    """The loggers of a config's `logger`; partial nodes receive the run's folder and name.

    Raises ConfigError for a node that is no logger.
    """
    loggers: list[Logger] = []
    for key, node in _nodes(config, "logger", "logger").items():
        made = make(node)
        logger = made(folder=folder, name=name) if node.get("_partial_") else made
        if not isinstance(logger, Logger):
            raise ConfigError(f"logger.{key} must be a Lightning logger, not {type(logger).__name__}.")
        loggers.append(logger)
    return loggers


def complete(config: DictConfig, key: str, *args: object, **kwargs: object) -> Any:
    """Call the partial node `key` of a config with a run's objects. Raises ConfigError when the call fails."""
    factory = make(config[key])
    try:
        return factory(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key} cannot be made: {str(error).splitlines()[0]}") from error


def check_nodes(config: DictConfig) -> None:
    """Raise ConfigError for a node of `callbacks` or `logger` that Hydra cannot instantiate."""
    _nodes(config, "callbacks", "callback")
    _nodes(config, "logger", "logger")


def _nodes(config: DictConfig, group: str, what: str) -> Mapping[str, DictConfig]:
    children = config.get(group)
    if not children:
        return {}
    if not isinstance(children, DictConfig):
        raise ConfigError(f"{group} must be {group}=none or a group of nodes with a _target_, not {children!r}.")
    nodes: dict[str, DictConfig] = {}
    for name, node in children.items():
        if node is None or node is False:
            continue
        if not isinstance(node, DictConfig) or "_target_" not in node:
            others = [str(other) for other in children if other != name]
            hint = f"; {nearest(str(name), others)}" if others else "."
            raise ConfigError(f"{group}.{name} must be a {what}, a node with a _target_, or false, not {node!r}{hint}")
        nodes[str(name)] = node
    return nodes


def _check_arguments(arguments: Mapping[str, object]) -> None:
    """Raise ConfigError for an argument that Lightning's Trainer does not have, or that the run sets itself."""
    parameters = inspect.signature(Trainer.__init__).parameters
    known = [name for name in (*parameters, "val_every_n_steps") if name not in ("self", *RESERVED)]
    for name in arguments:
        if name in RESERVED:
            raise ConfigError(f"trainer.{name} cannot be set here; {RESERVED[name]}.")
        if name not in known:
            raise ConfigError(f"There is no key 'trainer.{name}'; {nearest(name, known)}")


def _profiler(profiler: str | Profiler | None, folder: Path) -> Profiler | None:
    if not isinstance(profiler, str):
        return profiler
    if profiler not in PROFILERS:
        raise ConfigError(f"There is no trainer.profiler {profiler!r}; {nearest(profiler, list(PROFILERS))}")
    return PROFILERS[profiler](dirpath=folder, filename="profile")
