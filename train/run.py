"""The entry point of `resonance train`."""

import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, cast

from lightning import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from rich import get_console, reconfigure

from data.module import SFTDataModule
from data.preference_module import PreferenceDataModule
from resonance import lora
from resonance.checkpoint import Checkpoint
from resonance.metadata import Metadata
from resonance.model import GPT2
from resonance.provenance import git_commit, sha256_of_text
from train.allocator import keep_freed_memory
from train.callbacks.early_stopping import EarlyStopping
from train.callbacks.graceful_stop import GracefulStop, StoppedBySignal, explain_stop
from train.callbacks.metrics_csv import MetricsCSV
from train.callbacks.run_folder import RunFolder
from train.callbacks.scores import VALIDATION_LOSS
from train.callbacks.source_losses import SourceLosses
from train.checkpointing import read_state
from train.compilation import compile_blocks
from train.cpu_kernels import describe_attention
from train.folder_lock import disk_errors, locked_folder
from train.fsdp import FSDP2Strategy
from train.model_init import InitialModel
from train.monitors import check_monitors
from train.objectives import KTO, balance
from train.offload import check_offload
from train.optimizers import muon_warning
from train.parts import make_parts, packed_row_length
from train.plan import choose_batch, plan, with_changes
from train.provenance import (
    nothing_to_do,
    recorded_settings,
    resume_entry,
    start_messages,
    training_record,
    with_history,
)
from train.report.command import report_only
from train.report.page import REPORT_FILE
from train.run_config import RunSpec, is_rank_zero, resolve_run
from train.sweep import sweep
from train.trainer import complete, make_callbacks, make_loggers


def main(overrides: list[str]) -> float | None:
    """Train with `configs/train.yaml` and the overrides; returns the monitored score of the weights that are served.

    Raises KeyboardInterrupt when a signal stops the run.
    """
    if any(override.partition("=")[0] == "hparams_search" for override in overrides):
        multirun(overrides)
        return None
    _find_own_modules()
    with disk_errors():
        if (report := report_only(overrides)) is not None:
            get_console().print(str(report), highlight=False, markup=False, soft_wrap=True)
            return None
        spec = resolve_run(overrides)
    try:
        with disk_errors(spec):
            return train(spec)
    except StoppedBySignal:
        if not is_rank_zero():  # all ranks stop; rank 0 reports it
            raise SystemExit(130) from None
        get_console().print(
            f"{spec.folder.name} was stopped; {_served_weights(Checkpoint.open(spec.folder).metadata)}. "
            f"resume={spec.folder.name} goes on.",
            highlight=False,
            markup=False,
        )
        raise KeyboardInterrupt from None


def multirun(overrides: list[str]) -> None:
    """Train one run for each combination of the overrides' values, see `train.sweep`.

    SIGTERM ends it as Ctrl-C does, between two runs, too.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _find_own_modules()
    sweep(overrides, train_job)


def train_job(spec: RunSpec) -> float | None:
    """`train` as a job of a sweep, which another process may run."""
    _find_own_modules()
    with disk_errors(spec):
        return train(spec)


def train(spec: RunSpec) -> float | None:
    """Fit the model and write the run's folder; returns the monitored score of the weights that are served.

    A finished run is left unchanged. The score is None where it was never measured, and on ranks other than 0.
    Raises StoppedBySignal when a signal stops the run, after the state is saved.
    """
    reconfigure(soft_wrap=True, quiet=not is_rank_zero())  # only rank 0 prints
    console = get_console()
    keep_freed_memory()
    _quiet_libraries()
    if spec.plan:
        plan(spec, console, lambda changes: resolve_run([*with_changes(spec.overrides, changes), "plan=true"]).config)
        return None
    if spec.auto_batch:
        spec, choice = choose_batch(spec)
        console.print(choice, highlight=False)
    config, folder = spec.config, spec.folder
    seed_everything(config.seed, workers=True, verbose=False)
    saved = None if spec.state is None else read_state(spec.state)
    parts = make_parts(config, saved)
    initial, objective, data = parts.initial, parts.objective, parts.data
    train_yaml = OmegaConf.to_yaml(config)
    metadata = with_history(_metadata(config, initial, data, train_yaml), spec)
    # Older runs have no such keys.
    monitor, mode = str(config.save.get("monitor", VALIDATION_LOSS)), str(config.save.get("mode", "min"))
    writer = RunFolder(
        folder,
        parts.template.tokenizer,
        metadata,
        train_yaml,
        every_n_steps=config.save.every_n_steps,
        best=config.save.best,
        monitor=monitor,
        mode=mode,
        keep_best=config.save.get("keep_best", 0),
    )
    callbacks = [
        MetricsCSV(folder),
        *_source_losses(data),
        # The one that stops early comes after those that measure scores.
        *sorted(make_callbacks(config), key=lambda callback: isinstance(callback, EarlyStopping)),
        writer,
        GracefulStop(writer.interrupt),
    ]
    unmeasured = check_monitors(config, monitor, mode, callbacks, parts)
    settings = recorded_settings(spec)
    trainer: Trainer = complete(config, "trainer", folder=folder, callbacks=callbacks, data=data, **settings)
    check_offload(config, trainer)
    if saved is not None and (reason := nothing_to_do(spec, saved.step, trainer.max_steps)) is not None:
        console.print(reason, highlight=False, markup=False)
        return _served_score(folder, monitor)
    row_length = packed_row_length(config, initial.model.config) if config.batch.packing else None
    compilation = compile_blocks(config, initial.model, trainer, spec.recorded)
    training = training_record(trainer, command=spec.command, row_length=row_length, objective=objective)
    writer.describe(training | {"compiled": compilation.compiled}, resume_entry(spec) if spec.resumed else None)
    # Refuses invalid settings before anything is written.
    complete(config, "scheduler", complete(config, "optimizer", initial.model), 1)
    module = parts.module(config, metadata.trained_length, trainer)
    with locked_folder(spec):
        trainer.loggers = make_loggers(config, folder, str(config.run))
        for logger in trainer.loggers:
            logger.log_hyperparams(cast(dict[str, Any], OmegaConf.to_container(config)))
        console.print(
            f"[bold]{config.run}[/]  {_size(initial.model)}, from {initial.base or 'scratch'}; {_where(trainer)}",
            highlight=False,
        )
        for line in (*_notes(config, initial, trainer), *compilation.notes, *unmeasured):
            console.print(line, highlight=False, markup=False)
        console.print(str(data.report), highlight=False, markup=False)
        if isinstance(objective, KTO) and isinstance(data, PreferenceDataModule):
            console.print(balance(objective, *data.votes), highlight=False, markup=False)
        for line in start_messages(spec, 0 if saved is None else saved.step, data.shares):
            console.print(line, highlight=False, markup=False)
        with explain_stop(trainer, writer, data):
            trainer.fit(module, datamodule=data, ckpt_path=spec.state, weights_only=True)
        if trainer.is_global_zero:
            console.print(
                f"[bold]{folder}[/]  {trainer.global_step} steps, {module.tokens_seen:,} tokens{_report_note(folder)}"
            )
            served = Checkpoint.open(folder).metadata
            console.print(_served_weights(served), highlight=False, markup=False)
            for line in writer.kept.describe():
                console.print(line, highlight=False, markup=False)
            if config.save.best and served.weights != "best":
                console.print(f"{monitor} was never measured, so these are the newest.", highlight=False, markup=False)
    return _served_score(folder, monitor) if trainer.is_global_zero else None


def _find_own_modules() -> None:
    # A user's own `_target_` may name a module in the current folder; installed packages come before it.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _served_score(folder: Path, monitor: str) -> float | None:
    served = Checkpoint.open(folder).metadata.monitor
    return None if served is None or served.name != monitor else served.value


def _source_losses(data: SFTDataModule) -> list[SourceLosses]:
    if isinstance(data, PreferenceDataModule):  # its validation batches are of several sources
        return []
    sources = data.splits.validation_sources
    return [SourceLosses([name if count else None for name, count in sources.items()])] if sources else []


def _report_note(folder: Path) -> str:
    return f"; {REPORT_FILE} is its report" if (folder / REPORT_FILE).is_file() else ""


def _served_weights(metadata: Metadata) -> str:
    """A sentence on which weights the run's folder serves, and which are in `last/`."""
    name = VALIDATION_LOSS if metadata.monitor is None else metadata.monitor.name

    def describe(step: int, value: float | None) -> str:
        return f"step {step}" + ("" if value is None else f" ({name} {value:.4f})")

    best = ", the best" if metadata.weights == "best" else ""
    served = describe(metadata.steps, metadata.monitor and metadata.monitor.value)
    last = (
        "" if metadata.last is None else f"; last/ holds those of {describe(metadata.last.steps, metadata.last.value)}"
    )
    return f"served are the weights of {served}{best}{last}"


def _notes(config: DictConfig, initial: InitialModel, trainer: Trainer) -> list[str]:
    """Sentences on how training computes attention, and on the weights that it starts from."""
    adapter = bool(config.get("adapter"))
    attention = describe_attention(initial.model, trainer.strategy.root_device, str(trainer.precision))
    notes = [attention, muon_warning(config.optimizer._target_, initial.base, adapter=adapter)]
    if config.trainer.deterministic == "auto" and trainer.strategy.root_device.type == "cuda":
        notes.append("two such runs differ in the last bits; trainer.deterministic=true makes them equal, and slower")
    if adapter and initial.base is None:
        notes.append("an adapter over random weights learns little; name some to start from: model.weights=...")
    if config.get("adapter") and config.adapter.get("base_dtype", "fp32") != "fp32":
        held, full = lora.memory_of_base(initial.model)
        notes.append(
            f"the frozen weights are held in {config.adapter.base_dtype} (embeddings in bf16): {held / 1e6:,.1f} MB "
            f"instead of {full / 1e6:,.1f}"
        )
    return [note for note in notes if note is not None]


def _size(model: GPT2) -> str:
    """The number of parameters, and of trainable ones if not all train."""
    total = model.num_parameters()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if trained == total:
        return f"{total:,} parameters"
    return f"{trained:,} of {total:,} parameters train ({trained / total:.2%})"


def _where(trainer: Trainer) -> str:
    """The precision, device and processes of a run."""
    processes = f" in {trainer.world_size} processes" if trainer.world_size > 1 else ""
    shares = ", weights sharded (FSDP2)" if isinstance(trainer.strategy, FSDP2Strategy) else ""
    return f"{trainer.precision} on {trainer.strategy.root_device.type}{processes}{shares}"


def _metadata(config: DictConfig, initial: InitialModel, data: SFTDataModule, train_yaml: str) -> Metadata:
    return Metadata(
        template=config.template.name,
        base=initial.base,
        base_sha256=initial.base_sha256,
        data=data.source.name,
        data_fingerprint=data.fingerprint,
        config_sha256=sha256_of_text(train_yaml),
        git_commit=git_commit(),
        seed=config.seed,
        trained_length=max(initial.trained_length, data.longest),
    )


def _quiet_libraries() -> None:
    """Silence Lightning's hints, which are for its own users."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
