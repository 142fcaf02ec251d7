"""`resonance train`: config in, checkpoint out."""

import logging
import os
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lightning import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from rich import get_console, reconfigure

from data.module import SFTDataModule
from resonance import paths
from resonance.chat import ChatTemplate
from resonance.checkpoint import STATE_FILE, TRAIN_FILE, Checkpoint, Metadata, run_folders
from resonance.config import ConfigError, compose, make, override_values
from resonance.model import GPT2, GPT2Config
from train.allocator import keep_freed_memory
from train.callbacks.graceful_stop import GracefulStop, StoppedBySignal
from train.callbacks.metrics_csv import MetricsCSV
from train.callbacks.run_folder import RunFolder
from train.checks import check_keys, check_ranges
from train.module import SFTModule
from train.provenance import git_commit, sha256_of_text
from train.start import Start, start_from
from train.trainer import check_nodes, make_callbacks, make_loggers

WHICH_RUN = ("resume", "checkpoints_dir", "run")
RUN_NAME = "RESONANCE_RUN_NAME"  # how the processes of a distributed run agree on their folder


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command line asks for: a resolved config, the run's folder, and the state to go on from."""

    config: DictConfig
    folder: Path
    state: Path | None


def main(overrides: list[str]) -> None:
    """Train as `configs/train.yaml` and the overrides say. Raises KeyboardInterrupt when a signal ended the run."""
    plan = make_plan(overrides)
    try:
        train(plan)
    except StoppedBySignal:
        raise KeyboardInterrupt from None


def make_plan(overrides: list[str]) -> Plan:
    """Compose a new run, or take up an old one. Raises ConfigError or CheckpointError before anything is written."""
    which = [line for line in overrides if line.split("=")[0] in WHICH_RUN]
    config = compose("train", which)
    if config.resume is None:
        config = compose("train", overrides)
    root = Path(config.checkpoints_dir).expanduser().resolve() if config.checkpoints_dir else paths.CHECKPOINTS
    if config.resume is not None:
        folder = _find_run(str(config.resume), root)
        stored = OmegaConf.load(folder / TRAIN_FILE)
        assert isinstance(stored, DictConfig)
        kept = [line for line in overrides if line not in which]  # of the keys that this run has
        state = folder / STATE_FILE
        config = override_values(stored, kept)
        check_ranges(config)
        return Plan(config, folder, state if state.is_file() else None)
    check_keys(config)
    check_ranges(config)
    check_nodes(config)
    name = str(config.run or _default_name(overrides, config))
    if "LOCAL_RANK" in os.environ:  # a further process of a distributed run
        name = os.environ.get(RUN_NAME, name)
    elif (root / name / TRAIN_FILE).exists():
        raise ConfigError(f"There is a run {name!r} already; choose another run=NAME, or go on with resume={name}.")
    os.environ[RUN_NAME] = name
    OmegaConf.resolve(config)
    config.run = name
    for key in ("data.path", "model.weights"):  # as seen from here; a run may be resumed from elsewhere
        path = OmegaConf.select(config, key)
        if isinstance(path, str) and Path(path).expanduser().exists():
            OmegaConf.update(config, key, str(Path(path).expanduser().resolve()))
    return Plan(config, root / name, None)


def train(plan: Plan) -> None:
    """Fit, and write the run's folder. Raises StoppedBySignal when a signal ended the run, after its state is saved."""
    config, folder = plan.config, plan.folder
    reconfigure(soft_wrap=True)
    console = get_console()
    keep_freed_memory()
    _quiet_libraries()
    seed_everything(config.seed, workers=True, verbose=False)
    template = ChatTemplate.named(config.template.name)
    start = start_from(
        config.model.weights,
        _sizes(config.model),
        template,
        seed=config.seed,
        n_head=config.model.n_head_of_weights,
        adapter=make(config.adapter) if config.get("adapter") else None,
    )
    data = _data(config, template, start.model.config)
    data.setup()
    metadata = _metadata(config, start, data)
    writer = RunFolder(
        folder,
        template.tokenizer,
        metadata,
        OmegaConf.to_yaml(config),
        every_n_steps=config.save.every_n_steps,
        best=config.save.best,
    )
    callbacks = [MetricsCSV(folder), *make_callbacks(config), writer, GracefulStop(writer.save_all)]
    trainer: Trainer = make(config.trainer)(folder=folder, callbacks=callbacks, data=data)
    make_optimizer, make_schedule = make(config.optimizer), make(config.scheduler)
    make_schedule(make_optimizer(start.model), 1)  # refuses settings that cannot be, before anything is written
    module = SFTModule(start.model, make_optimizer, make_schedule, config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    trainer.loggers = make_loggers(config, folder, str(config.run))
    console.print(f"[bold]{config.run}[/]  {_size(start.model)}, from {start.base or 'scratch'}")
    if config.get("adapter") and start.base is None:
        console.print("an adapter over random weights learns little; name some to start from: model.weights=...")
    console.print(str(data.report), highlight=False, markup=False)
    if plan.state is not None:
        console.print(f"resuming from {plan.state}", highlight=False)
    trainer.fit(module, datamodule=data, ckpt_path=plan.state, weights_only=True)
    if trainer.is_global_zero:
        console.print(f"[bold]{folder}[/]  {trainer.global_step} steps, {module.tokens_seen:,} tokens")
        console.print(_what_is_served(Checkpoint.open(folder).metadata), highlight=False, markup=False)


def _what_is_served(metadata: Metadata) -> str:
    """Which of a run's weights are served as the run's, and which are in `last/`."""

    def weights(step: int, value: float | None) -> str:
        return f"step {step}" + ("" if value is None else f" (val/loss {value:.4f})")

    best = ", the best" if metadata.weights == "best" else ""
    served = weights(metadata.steps, metadata.monitor and metadata.monitor.value)
    last = (
        "" if metadata.last is None else f"; last/ holds those of {weights(metadata.last.steps, metadata.last.value)}"
    )
    return f"served are the weights of {served}{best}{last}"


def _find_run(what: str, root: Path) -> Path:
    runs = [folder for folder in run_folders(root) if (folder / TRAIN_FILE).is_file()]
    if what == "latest" and runs:
        return max(runs, key=lambda folder: max(file.stat().st_mtime for file in folder.iterdir() if file.is_file()))
    for folder in (root / what, Path(what).expanduser()):
        if (folder / TRAIN_FILE).is_file():
            return folder
    there = ", ".join(folder.name for folder in runs) or "none yet"
    raise ConfigError(f"There is no run {what!r} to resume in {root}; there are: {there}.")


def _default_name(overrides: list[str], config: DictConfig) -> str:
    chosen = dict(line.split("=", 1) for line in overrides if "=" in line)
    what = chosen.get("experiment") or f"{config.model.name}-{chosen.get('data', 'basics')}"
    return f"{what}-{datetime.now():%Y%m%d-%H%M%S}"


def _size(model: GPT2) -> str:
    """How many parameters there are, and how many of them train where not all do."""
    total = model.num_parameters()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if trained == total:
        return f"{total:,} parameters"
    return f"{trained:,} of {total:,} parameters train ({trained / total:.2%})"


def _sizes(model: DictConfig) -> GPT2Config:
    return GPT2Config(
        n_layer=model.n_layer,
        n_head=model.n_head,
        n_embd=model.n_embd,
        context_length=model.context_length,
        tie_weights=model.tie_weights,
        dropout=model.dropout,
        initializer_range=model.initializer_range,
    )


def _data(config: DictConfig, template: ChatTemplate, model: GPT2Config) -> SFTDataModule:
    batch = config.batch
    row_length = min(batch.row_length or model.context_length, model.context_length)
    return SFTDataModule(
        make(config.data),
        template,
        context_length=min(batch.max_length or row_length, row_length),
        batch_size=batch.size,
        packing=batch.packing,
        row_length=row_length if batch.packing else None,
        seed=config.seed,
    )


def _metadata(config: DictConfig, start: Start, data: SFTDataModule) -> Metadata:
    experiment = {key: value for key, value in config.items() if key not in ("run", "resume", "checkpoints_dir")}
    return Metadata(
        template=config.template.name,
        base=start.base,
        base_sha256=start.base_sha256,
        data=data.source.name,
        data_fingerprint=data.fingerprint,
        config_sha256=sha256_of_text(OmegaConf.to_yaml(OmegaConf.create(experiment), sort_keys=True)),
        git_commit=git_commit(),
        seed=config.seed,
        trained_length=max(start.trained_length, data.longest),
    )


def _quiet_libraries() -> None:
    """Lightning's hints are for its own users; ours would read them as faults of theirs."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
