"""`resonance train`: config in, checkpoint out."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, cast

from lightning import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from rich import get_console, reconfigure

from data.module import SFTDataModule
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.hydra_config import make
from resonance.metadata import Metadata
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from train.allocator import keep_freed_memory
from train.callbacks.graceful_stop import GracefulStop, StoppedBySignal
from train.callbacks.metrics_csv import MetricsCSV
from train.callbacks.run_folder import RunFolder
from train.checkpointing import saved_step
from train.folder_lock import claimed, disk_errors
from train.history import announced, nothing_to_do, recorded_settings, resume_entry, with_history
from train.losses import SampledSoftmax
from train.model_init import Start, start_from
from train.provenance import git_commit, sha256_of_text
from train.record import training_record
from train.resolve import Plan, is_leader, make_plan
from train.sft_module import SFTModule
from train.stopping import explain_stop
from train.trainer import complete, make_callbacks, make_loggers


def main(overrides: list[str]) -> None:
    """Train as `configs/train.yaml` and the overrides say. Raises KeyboardInterrupt when a signal ended the run."""
    if str(Path.cwd()) not in sys.path:  # where a `_target_` of one's own is looked for, after what is installed
        sys.path.append(str(Path.cwd()))
    with disk_errors():
        plan = make_plan(overrides)
    try:
        with disk_errors(plan):
            train(plan)
    except StoppedBySignal:
        if not is_leader():  # all ranks end alike, and one says so
            raise SystemExit(130) from None
        get_console().print(
            f"{plan.folder.name} was stopped; {_what_is_served(Checkpoint.open(plan.folder).metadata)}. "
            f"resume={plan.folder.name} goes on.",
            highlight=False,
            markup=False,
        )
        raise KeyboardInterrupt from None


def train(plan: Plan) -> None:
    """Fit, and write the run's folder. Raises StoppedBySignal when a signal ended the run, after its state is saved.

    A run that has reached its end already is left as it is.
    """
    config, folder = plan.config, plan.folder
    reconfigure(soft_wrap=True, quiet=not is_leader())  # one process speaks for all
    console = get_console()
    keep_freed_memory()
    _quiet_libraries()
    seed_everything(config.seed, workers=True, verbose=False)
    done = 0 if plan.state is None else saved_step(plan.state)
    template = ChatTemplate.named(config.template.name)
    start = start_from(
        config.model.weights,
        _sizes(config.model),
        template,
        seed=config.seed,
        n_head=config.model.n_head_of_weights,
        adapter=make(config.adapter) if config.get("adapter") else None,
        induction_heads=config.model.get("induction_heads") or 0,  # older runs have no such key
    )
    data = _data(config, template, start.model.config)
    data.setup()
    train_yaml = OmegaConf.to_yaml(config)
    metadata = with_history(_metadata(config, start, data, train_yaml), plan)
    writer = RunFolder(
        folder,
        template.tokenizer,
        metadata,
        train_yaml,
        every_n_steps=config.save.every_n_steps,
        best=config.save.best,
    )
    callbacks = [MetricsCSV(folder), *make_callbacks(config), writer, GracefulStop(writer.interrupt)]
    given = {"folder": folder, "callbacks": callbacks, "data": data}
    trainer: Trainer = complete(config, "trainer", **given, **recorded_settings(plan))
    if plan.state is not None and (reason := nothing_to_do(plan, done, trainer.max_steps)) is not None:
        console.print(reason, highlight=False, markup=False)
        return
    row_length = _row_length(config, start.model.config) if config.batch.packing else None
    training = training_record(trainer, command=plan.command, row_length=row_length)
    writer.describe(training, resume_entry(plan) if plan.resumed else None)
    # Settings that cannot be are refused before anything is written.
    complete(config, "scheduler", complete(config, "optimizer", start.model), 1)
    module = SFTModule(
        start.model, make(config.optimizer), make(config.scheduler), config.seed, _softmax(config, data, start.model)
    )
    with claimed(plan):
        trainer.loggers = make_loggers(config, folder, str(config.run))
        for logger in trainer.loggers:
            logger.log_hyperparams(cast(dict[str, Any], OmegaConf.to_container(config)))
        console.print(
            f"[bold]{config.run}[/]  {_size(start.model)}, from {start.base or 'scratch'}; {_where(trainer)}",
            highlight=False,
        )
        if config.get("adapter") and start.base is None:
            console.print("an adapter over random weights learns little; name some to start from: model.weights=...")
        console.print(str(data.report), highlight=False, markup=False)
        for line in announced(plan, done):
            console.print(line, highlight=False, markup=False)
        with explain_stop(trainer, writer, data):
            trainer.fit(module, datamodule=data, ckpt_path=plan.state, weights_only=True)
        if trainer.is_global_zero:
            console.print(f"[bold]{folder}[/]  {trainer.global_step} steps, {module.tokens_seen:,} tokens")
            console.print(_what_is_served(Checkpoint.open(folder).metadata), highlight=False, markup=False)


def _softmax(config: DictConfig, data: SFTDataModule, model: GPT2) -> SampledSoftmax | None:
    count = OmegaConf.select(config, "loss.sampled_tokens")  # runs made before there was such a key have none
    return None if count is None else SampledSoftmax(data.used_tokens, model.config.vocab_size, count)


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


def _size(model: GPT2) -> str:
    """How many parameters there are, and how many of them train where not all do."""
    total = model.num_parameters()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if trained == total:
        return f"{total:,} parameters"
    return f"{trained:,} of {total:,} parameters train ({trained / total:.2%})"


def _where(trainer: Trainer) -> str:
    """What a run computes on and in which format."""
    processes = f" in {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"{trainer.precision} on {trainer.strategy.root_device.type}{processes}"


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
    batch, row_length = config.batch, _row_length(config, model)
    return SFTDataModule(
        make(config.data),
        template,
        context_length=min(batch.max_length or row_length, row_length),
        batch_size=batch.size,
        packing=batch.packing,
        row_length=row_length if batch.packing else None,
        seed=config.seed,
    )


def _row_length(config: DictConfig, model: GPT2Config) -> int:
    return min(config.batch.row_length or model.context_length, model.context_length)


def _metadata(config: DictConfig, start: Start, data: SFTDataModule, train_yaml: str) -> Metadata:
    return Metadata(
        template=config.template.name,
        base=start.base,
        base_sha256=start.base_sha256,
        data=data.source.name,
        data_fingerprint=data.fingerprint,
        config_sha256=sha256_of_text(train_yaml),
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
