"""What a command line asks for: a new run, one to go on with, or one to make again; all without writing anything."""

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
from resonance.checkpoint import MODEL_FILE, STATE_FILE, TRAIN_FILE, Checkpoint, run_folders
from resonance.hydra_config import ConfigError, compose, override_values
from resonance.metadata import LAST_FOLDER, Metadata
from train.checks import check_keys, check_ranges
from train.trainer import check_nodes

WHICH_RUN = ("resume", "from_checkpoint", "checkpoints_dir", "run", "overwrite")
REPLACEABLE_GROUPS = ("callbacks", "logger")  # what a stored config may get another of
RUN_NAME = "RESONANCE_RUN_NAME"  # how the processes of a distributed run agree on their folder
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # where launchers say which process this is

# Keys, or the nodes they stand in, that a resumed run cannot change: its curve would not be that of one run.
FIXED = (
    "seed",
    "model",
    "data",
    "template",
    "adapter",
    "batch",
    "trainer._target_",
    "trainer.accumulate_grad_batches",
    "trainer.precision",
    "optimizer._target_",
    "scheduler._target_",
)

Changes = Mapping[str, tuple[object, object]]  # what a key was and is


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved config, the run's folder, and what is there already."""

    config: DictConfig
    folder: Path
    command: str
    resumed: bool = False
    state: Path | None = None  # to go on from
    changes: Changes = field(default_factory=dict[str, tuple[object, object]])  # by a resume or a remake
    recorded: Metadata | None = None  # of the run that goes on, or that is made again
    remade: str | None = None  # the name of the run that is made again
    overwrite: bool = False


def make_plan(overrides: list[str]) -> Plan:
    """Compose a new run, or take up an old one. Raises ConfigError or CheckpointError before anything is written."""
    which = [line for line in overrides if line.split("=")[0] in WHICH_RUN]
    asked = compose("train", which)
    root = Path(asked.checkpoints_dir).expanduser().resolve() if asked.checkpoints_dir else paths.CHECKPOINTS
    if asked.resume is not None:
        return _resume(overrides, asked, root)
    remade = None if asked.from_checkpoint is None else _find_run(str(asked.from_checkpoint), root, "to make again")
    changes: Changes = {}
    if remade is None:
        config = compose("train", overrides)
    else:
        stored = _stored(remade)
        config, changes = _changed(stored, [line for line in overrides if line not in which])
        config.run, config.checkpoints_dir = asked.run, asked.checkpoints_dir
    _check(config)
    name = _name(config, overrides, None if remade is None else _run_name(remade))
    folder = root / name
    if is_leader():
        check_free(folder, overwrite=bool(asked.overwrite))
    os.environ[RUN_NAME] = name
    config.from_checkpoint, config.overwrite = None, False
    OmegaConf.resolve(config)
    config.run = name
    for key in ("data.path", "model.weights"):  # as seen from here; a run may be resumed from elsewhere
        path = OmegaConf.select(config, key)
        if isinstance(path, str) and Path(path).expanduser().exists():
            OmegaConf.update(config, key, str(Path(path).expanduser().resolve()))
    return Plan(
        config,
        folder,
        _command(overrides),
        changes=changes,
        recorded=None if remade is None else Checkpoint.open(remade).metadata,
        remade=None if remade is None else _run_name(remade),
        overwrite=bool(asked.overwrite),
    )


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise ConfigError when a new run in `folder` would overwrite something that nobody asked to overwrite."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another run=NAME.")
    there = [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.is_dir() else []
    if not there:
        return
    name = folder.name
    if folder not in run_folders(folder.parent):
        raise ConfigError(f"{folder} holds files that are no run of ours; choose another run=NAME.")
    if not overwrite:
        raise ConfigError(
            f"There is a run {name!r} already; choose another run=NAME, go on with resume={name}, or have it deleted "
            "and made anew with overwrite=true."
        )


def is_leader() -> bool:
    """Whether this process writes the run's folder: the first of all that a launcher started, or the only one."""
    ranks = [os.environ[name] for name in RANKS if name in os.environ]
    return not ranks or ranks[0] == "0"


def shown(value: object) -> str:
    """A value of a config in a sentence."""
    if value is None:
        return "null"
    return str(value) or "''"


def _resume(overrides: list[str], asked: DictConfig, root: Path) -> Plan:
    for key in ("from_checkpoint", "overwrite"):
        if asked[key]:
            raise ConfigError(f"resume= goes on with a run as it is; leave out {key}=.")
    folder = _find_run(str(asked.resume), root, "to resume")
    if asked.run is not None and str(asked.run) != folder.name:
        raise ConfigError(f"resume={folder.name} goes on under its own name, not run={asked.run}; leave out run=.")
    state = folder / STATE_FILE
    if not state.is_file() and any((folder / part / MODEL_FILE).is_file() for part in ("", LAST_FOLDER)):
        raise ConfigError(
            f"{folder} has weights but no {STATE_FILE} to go on from, and beginning anew would overwrite them; begin a "
            f"new run from them with model.weights={folder}, or make it again with from_checkpoint={folder.name}."
        )
    kept = [line for line in overrides if line.split("=")[0] not in WHICH_RUN]
    config, changes = _changed(_stored(folder), kept)
    for key, (before, now) in changes.items():
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED):
            raise ConfigError(
                f"{key} was {shown(before)} and is {shown(now)}, which a resumed run cannot change; leave it out, or "
                f"begin a new run from these weights: model.weights={folder}."
            )
    _check(config)
    return Plan(
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


def _stored(folder: Path) -> DictConfig:
    """The config of a run. Raises ConfigError for one that this version cannot run."""
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


def _changed(stored: DictConfig, overrides: list[str]) -> tuple[DictConfig, Changes]:
    """A stored config with overrides, and which of its keys they change."""
    groups = [line for line in overrides if line.lstrip("~+").split("=")[0] in REPLACEABLE_GROUPS]
    config = stored.copy()
    if groups:
        fresh = compose("train", groups)
        for group in {line.lstrip("~+").split("=")[0] for line in groups}:
            config[group] = fresh.get(group) or {}
    config = override_values(config, [line for line in overrides if line not in groups])
    before, now = (_leaves(OmegaConf.to_container(node, resolve=False)) for node in (stored, config))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return config, {key: (before.get(key), now.get(key)) for key in keys}


def _leaves(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict) or not node:
        return {prefix.rstrip("."): node}
    return {name: value for key, below in node.items() for name, value in _leaves(below, f"{prefix}{key}.").items()}


def _find_run(what: str, root: Path, purpose: str) -> Path:
    runs = [folder for folder in run_folders(root) if (folder / TRAIN_FILE).is_file()]
    if what == "latest" and runs:
        return max(runs, key=lambda folder: max(file.stat().st_mtime for file in folder.iterdir() if file.is_file()))
    for folder in (root / what, Path(what).expanduser()):
        if (folder / TRAIN_FILE).is_file():
            return folder.resolve()
    there = ", ".join(folder.name for folder in runs) or "none yet"
    raise ConfigError(f"There is no run {what!r} {purpose} in {root}; there are: {there}.")


def _run_name(folder: Path) -> str:
    return folder.parent.name if folder.name == LAST_FOLDER else folder.name


def _name(config: DictConfig, overrides: list[str], remade: str | None) -> str:
    """The new run's name, which all processes of a distributed run agree on."""
    if config.run is not None:
        return str(config.run)
    if not is_leader() and RUN_NAME in os.environ:
        return os.environ[RUN_NAME]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("Processes that a launcher starts need a name that they share: run=NAME.")
    chosen = dict(line.split("=", 1) for line in overrides if "=" in line)
    what = remade or chosen.get("experiment") or f"{config.model.name}-{chosen.get('data', 'basics')}"
    return f"{what}-{datetime.now():%Y%m%d-%H%M%S}"


def _command(overrides: list[str]) -> str:
    return shlex.join(["resonance", "train", *overrides])
