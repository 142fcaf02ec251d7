"""Resolves a command line to a run: a new one, a resumed one, or a reproduction. Writes nothing."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from resonance import paths
from resonance.aliases import read_aliases
from resonance.checkpoint import MODEL_FILE, STATE_FILE, TRAIN_FILE, Checkpoint, run_folders
from resonance.hydra_config import ConfigError, compose, config_folders, override_values
from resonance.metadata import KEPT_FOLDER, LAST_FOLDER, Metadata
from resonance.weights import NAMES
from train.config_checks import check_keys, check_ranges
from train.fsdp import check_strategy
from train.objectives import objective_of
from train.trainer import check_nodes

RUN_KEYS = ("resume", "from_checkpoint", "checkpoints_dir", "run", "overwrite", "plan", "plan_memory")
AUTO = "batch.size=auto"
REPLACEABLE_GROUPS = ("callbacks", "logger")  # groups that a stored config can replace
RUN_NAME = "RESONANCE_RUN_NAME"  # passes the run's name to the other processes of a distributed run
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # launchers' variables for the rank of a process

# Keys and nodes that a resumed run cannot change: its loss curve would no longer be that of one run.
FIXED = (
    "seed",
    "model",
    "data",
    "template",
    "adapter",
    "batch",
    "objective",
    "trainer._target_",
    "trainer.accumulate_grad_batches",
    "trainer.precision",
    "optimizer._target_",
    "optimizer.layer_decay",
    "scheduler._target_",
)

Changes = Mapping[str, tuple[object, object]]  # key: (old value, new value)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run: its resolved config and folder, and the earlier run that it resumes or reproduces."""

    config: DictConfig
    folder: Path
    command: str
    resumed: bool = False
    state: Path | None = None  # the training state to resume from
    changes: Changes = field(default_factory=dict[str, tuple[object, object]])  # against the stored config
    recorded: Metadata | None = None  # of the run that is resumed or reproduced
    reproduces: str | None = None  # the reproduced run's name
    overwrite: bool = False
    plan: bool = False  # print what the run needs, and train nothing
    memory: float | None = None  # bytes that plan and `batch.size=auto` count on; None: all that there are
    auto_batch: bool = False  # choose the micro-batch; the config has the one whose step's rows to keep
    overrides: tuple[str, ...] = ()  # of the command line


def resolve_run(overrides: list[str]) -> RunSpec:
    """Compose a new run, or load an earlier one. Raises ConfigError or CheckpointError before anything is written."""
    run_overrides = [override for override in overrides if override.split("=")[0] in RUN_KEYS]
    selection = compose("train", run_overrides)
    root = checkpoints_root(selection)
    if not isinstance(selection.plan, bool):
        raise ConfigError(f"plan must be true or false, not {selection.plan!r}.")
    memory: object = selection.plan_memory
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int | float) or not memory > 0):
        raise ConfigError(f"plan_memory must be a number of gigabytes, or null, not {memory!r}.")
    auto = AUTO in overrides
    if memory is not None and not (auto or selection.plan):
        raise ConfigError(f"plan_memory is for plan=true and {AUTO}; leave it out.")
    if selection.resume is not None:
        if auto:
            raise ConfigError(f"{AUTO} chooses for a new run; leave it out, as a resumed run keeps its size.")
        return _resume(overrides, selection, root)
    source = (
        None if selection.from_checkpoint is None else find_run(str(selection.from_checkpoint), root, "to make again")
    )
    changes: Changes = {}
    # Of `auto` the config has the size without it, whose rows a step keeps.
    remaining = [override for override in overrides if override != AUTO]
    if source is None:
        config = compose("train", remaining)
    else:
        remaining = [override for override in remaining if override not in run_overrides]
        config, changes = _override(_load_config(source), remaining)
        config.run, config.checkpoints_dir = selection.run, selection.checkpoints_dir
    _check(config)
    reproduces = None if source is None else _run_name(source)
    name = _new_run_name(config, overrides, reproduces)
    folder = root / name
    if is_rank_zero() and not selection.plan:
        check_unused(folder, overwrite=bool(selection.overwrite))
    os.environ[RUN_NAME] = name
    config.from_checkpoint, config.overwrite, config.plan, config.plan_memory = None, False, False, None
    OmegaConf.resolve(config)
    config.run = name
    weights = config.model.weights
    if isinstance(weights, str) and weights not in NAMES and not Path(weights).expanduser().exists():
        config.model.weights = str(Checkpoint.find(weights, root).folder)  # of a run, by its name
    for key in ("data.path", "model.weights"):  # absolute: a run may be resumed from another directory
        path = OmegaConf.select(config, key)
        if isinstance(path, str) and Path(path).expanduser().exists():
            OmegaConf.update(config, key, str(Path(path).expanduser().resolve()))
    return RunSpec(
        config,
        folder,
        _command(overrides),
        changes=changes,
        recorded=None if source is None else Checkpoint.open(source).metadata,
        reproduces=reproduces,
        overwrite=bool(selection.overwrite),
        plan=selection.plan,
        memory=memory and memory * 1e9,
        auto_batch=auto,
        overrides=tuple(overrides),
    )


def checkpoints_root(config: DictConfig) -> Path:
    """The folder that holds the runs of a config."""
    return Path(config.checkpoints_dir).expanduser().resolve() if config.checkpoints_dir else paths.CHECKPOINTS


def check_unused(folder: Path, *, overwrite: bool) -> None:
    """Raise ConfigError when a new run in `folder` would overwrite files without `overwrite`."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another run=NAME.")
    if folder.name in read_aliases(folder.parent):
        raise ConfigError(f"{folder.name!r} is an alias, see `resonance promote --list`; choose another run=NAME.")
    files = [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.is_dir() else []
    if not files:
        return
    name = folder.name
    if folder not in run_folders(folder.parent):
        raise ConfigError(f"{folder} holds files that are no run of ours; choose another run=NAME.")
    if not overwrite:
        raise ConfigError(
            f"There is a run {name!r} already; choose another run=NAME, go on with resume={name}, or have it deleted "
            "and made anew with overwrite=true."
        )


def is_rank_zero() -> bool:
    """Whether this process writes the run's folder: rank 0 of a launcher's processes, or the only process."""
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    return not ranks or ranks[0] == "0"


def format_value(value: object) -> str:
    """A config value for a message."""
    if value is None:
        return "null"
    return str(value) or "''"


def _resume(overrides: list[str], selection: DictConfig, root: Path) -> RunSpec:
    if selection.plan:
        raise ConfigError("plan=true plans a new run; leave out resume=, or plan=.")
    for key in ("from_checkpoint", "overwrite"):
        if selection[key]:
            raise ConfigError(f"resume= goes on with a run as it is; leave out {key}=.")
    folder = find_run(str(selection.resume), root, "to resume")
    if selection.run is not None and str(selection.run) != folder.name:
        raise ConfigError(f"resume={folder.name} goes on under its own name, not run={selection.run}; leave out run=.")
    state = folder / STATE_FILE
    if not state.is_file() and any((folder / part / MODEL_FILE).is_file() for part in ("", LAST_FOLDER)):
        raise ConfigError(
            f"{folder} has weights but no {STATE_FILE} to go on from, and beginning anew would overwrite them; begin a "
            f"new run from them with model.weights={folder}, or make it again with from_checkpoint={folder.name}."
        )
    remaining = [override for override in overrides if override.split("=")[0] not in RUN_KEYS]
    config, changes = _override(_load_config(folder), remaining)
    for key, (before, now) in changes.items():
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED):
            raise ConfigError(
                f"{key} was {format_value(before)} and is {format_value(now)}, which a resumed run cannot "
                f"change; leave it out, or begin a new run from these weights: model.weights={folder}."
            )
    _check(config)
    return RunSpec(
        config,
        folder,
        _command(overrides),
        resumed=True,
        state=state if state.is_file() else None,
        changes=changes,
        recorded=Checkpoint.open(folder).metadata if state.is_file() else None,
    )


def _check(config: DictConfig) -> None:
    check_keys(config)
    check_ranges(config)
    check_nodes(config)
    check_strategy(config)
    objective_of(config)


def _load_config(folder: Path) -> DictConfig:
    """Load a run's config. Raises ConfigError for one that this version cannot run."""
    try:
        stored = OmegaConf.load(folder / TRAIN_FILE)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder / TRAIN_FILE} is not the config of a run: {str(error).splitlines()[0]}") from error
    if not isinstance(stored, DictConfig) or OmegaConf.select(stored, "trainer._target_") is None:
        raise ConfigError(
            f"{folder} was trained by an earlier version, whose config cannot be taken up; begin a new run from its "
            f"weights: model.weights={folder}."
        )
    return stored


def _override(stored: DictConfig, overrides: list[str]) -> tuple[DictConfig, Changes]:
    """Apply overrides to a stored config; returns the config and the changed keys."""
    groups = [override for override in overrides if override.lstrip("~+").split("=")[0] in REPLACEABLE_GROUPS]
    config = stored.copy()
    if groups:
        fresh = compose("train", groups)
        for group in {override.lstrip("~+").split("=")[0] for override in groups}:
            config[group] = fresh.get(group) or {}
    config = override_values(config, [override for override in overrides if override not in groups])
    before, now = (flatten(OmegaConf.to_container(node, resolve=False)) for node in (stored, config))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return config, {key: (before.get(key), now.get(key)) for key in keys}


def flatten(node: object, prefix: str = "") -> dict[str, object]:
    """The values of a nested config by their keys: `trainer.max_steps`."""
    if not isinstance(node, dict) or not node:
        return {prefix.rstrip("."): node}
    return {name: value for key, below in node.items() for name, value in flatten(below, f"{prefix}{key}.").items()}


def find_run(name: str, root: Path, purpose: str) -> Path:
    """The folder of a run: `latest`, a name under `root`, or a folder. Raises ConfigError for another one."""
    runs = [folder for folder in run_folders(root) if (folder / TRAIN_FILE).is_file()]
    if name == "latest" and runs:
        return max(runs, key=lambda folder: max(file.stat().st_mtime for file in folder.iterdir() if file.is_file()))
    for folder in (root / name, Path(name).expanduser()):
        if (folder / TRAIN_FILE).is_file():
            return folder.resolve()
    existing = ", ".join(folder.name for folder in runs) or "none yet"
    raise ConfigError(f"There is no run {name!r} {purpose} in {root}; there are: {existing}.")


def _run_name(folder: Path) -> str:
    if folder.parent.name == KEPT_FOLDER:
        return folder.parents[1].name
    return folder.parent.name if folder.name == LAST_FOLDER else folder.name


def _new_run_name(config: DictConfig, overrides: list[str], reproduces: str | None) -> str:
    """The new run's name, the same in all processes of a distributed run."""
    if config.run is not None:
        return str(config.run)
    if not is_rank_zero() and RUN_NAME in os.environ:
        return os.environ[RUN_NAME]
    launched = [os.environ.get("WORLD_SIZE"), os.environ.get("SLURM_NTASKS") if "SLURM_PROCID" in os.environ else None]
    if any(int(number) > 1 for number in launched if number):
        raise ConfigError("Processes that a launcher starts need a name that they share: run=NAME.")
    chosen = dict(override.split("=", 1) for override in overrides if "=" in override)
    prefix = reproduces or chosen.get("experiment") or f"{config.model.name}-{chosen.get('data', 'basics')}"
    return f"{prefix}-{datetime.now():%Y%m%d-%H%M%S}"


def _command(overrides: list[str]) -> str:
    first, last = config_folders()
    flags = [*(f"--config-path={folder}" for folder in first), *(f"--config-dir={folder}" for folder in last)]
    return shlex.join(["resonance", "train", *flags, *overrides])
