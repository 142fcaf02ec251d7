"""Measures what the memory estimate of a run needs: its model, its first batches, and small steps where they fit."""

import gc
import math
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from data.loader import Batch
from data.streaming_module import StreamingDataModule
from resonance.hydra_config import ConfigError
from resonance.model import GPT2
from resonance.system_memory import available_bytes, resident_bytes
from train.activation_checkpointing import checkpoint_activations, keep_activations
from train.cuda_memory import CUDA_CONTEXT, backward_bytes, cuda_activations, cuda_loss_bytes
from train.flash_attention import why_not_flash
from train.losses import chunk_size
from train.memory_estimate import (
    Activations,
    Estimate,
    count_activations,
    gradient_bytes,
    loss_bytes,
    optimizer_bytes,
    quantised_bytes,
    sampling_bytes,
    with_checkpointing,
)
from train.offload import check_offload
from train.packed_linear import packed_bytes
from train.parts import Parts, make_parts
from train.sft_module import SFTModule
from train.trainer import complete

_SAMPLED_BATCHES = 20  # whose widest stands for all where rows have different lengths
_PROBED_ROWS = (1, 2)
_COPIES = 1.0  # of the weights, that writing them needs


@dataclass(frozen=True, slots=True)
class RunMemory:
    """A run that is ready for its first step, and its memory with and without activation checkpointing.

    `row_tokens` are the tokens of a row, padding included; `epoch_rows` the rows of an epoch, None where the data is
    streamed; `available` the bytes that the process can have in all, those that it holds included.
    """

    config: DictConfig
    parts: Parts
    module: SFTModule
    optimizer: Optimizer
    trainer: Trainer
    batch: Batch
    row_tokens: int
    epoch_rows: int | None
    kept: Estimate
    checkpointed: Estimate
    available: float

    @property
    def model(self) -> GPT2:
        """The model, with its adapter if there is one."""
        return self.parts.initial.model

    @property
    def estimate(self) -> Estimate:
        """The estimate with the run's own setting of activation checkpointing."""
        return self.checkpointed if self.config.get("activation_checkpointing") else self.kept

    @property
    def rows(self) -> int:
        """The rows of a micro-batch."""
        return int(self.config.batch.size)

    @property
    def accumulate(self) -> int:
        """The micro-batches of a step."""
        return int(self.config.trainer.accumulate_grad_batches)

    def filled_rows(self, rows: int | None = None) -> int:
        """The rows of the largest micro-batch that the data has, with `batch.size=rows`; None: the run's own number.

        An epoch is dealt into as few micro-batches as that allows, whose rows differ by one at most.
        """
        rows = rows or self.rows
        if not self.epoch_rows:
            return rows
        return math.ceil(self.epoch_rows / math.ceil(self.epoch_rows / rows))

    def peak(self, rows: int | None = None, estimate: Estimate | None = None) -> float:
        """The estimated peak with so many rows in a micro-batch; None: the run's own number."""
        estimate = replace(estimate or self.estimate, accumulates=(rows or self.rows) < self.rows * self.accumulate)
        return estimate.peak(self.row_tokens * self.filled_rows(rows))

    def most_rows(self, available: float, estimate: Estimate | None = None) -> int | None:
        """The most rows whose peak is at most `available`, and that divide a step's rows; None: not even one."""
        whole = self.rows * self.accumulate
        fitting = (n for n in range(whole, 0, -1) if whole % n == 0 and self.peak(n, estimate) <= available)
        return next(fitting, None)

    def with_8bit_moments(self, estimate: Estimate) -> Estimate:
        """An estimate with the moments of `optimizer=adamw_8bit`."""
        return replace(estimate, optimizer=quantised_bytes(self.model, full_embeddings=True))


def measure(config: DictConfig, *, memory: float | None = None, process: float | None = None) -> RunMemory:
    """Make a run's parts and count what its first batches keep. Writes nothing.

    `memory` are the bytes that the process may have, None for all that there are. `process` is the memory without a
    model, where an earlier measurement of this process knows it. Raises the errors of a run's start, and ConfigError
    for objectives and numbers of processes that cannot be estimated.
    """
    if config.get("objective") is not None and not str(config.objective._target_).endswith(".SFT"):
        raise ConfigError("plan=true and batch.size=auto know objective=sft alone; set batch.size by hand.")
    parts = make_parts(config)
    trainer: Trainer = complete(config, "trainer", folder=Path(tempfile.gettempdir()), callbacks=[], data=parts.data)
    if trainer.world_size > 1:
        raise ConfigError(
            f"plan=true and batch.size=auto are for one process, not {trainer.world_size}; plan one with "
            "trainer.devices=1 and give the numbers to all."
        )
    check_offload(config, trainer)
    module = parts.module(config, None, trainer)
    trainer.precision_plugin.convert_module(module)
    module.train()
    model = parts.initial.model
    optimizer: Optimizer = complete(config, "optimizer", model)
    batch = _widest_batch(parts)
    on_cuda = trainer.strategy.root_device.type == "cuda"
    probed = process is None and not on_cuda
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if on_cuda:
        process = CUDA_CONTEXT
    elif process is None:
        process = resident_bytes() - weights
    moments = optimizer_bytes(optimizer)
    if moments is None:  # of somebody else's optimiser: as much as AdamW's, the usual most
        moments = 2 * gradient_bytes(model)
    half = "16" in str(trainer.precision)
    copies = packed_bytes(model) if half and not on_cuda else 0
    supervised = float((batch["labels"] >= 0).double().mean())
    averages = gradient_bytes(model) if getattr(parts.objective, "ema_decay", None) is not None else 0
    estimate = Estimate(
        process=process,
        weights=weights + averages + copies,
        gradients=gradient_bytes(model),
        optimizer=moments,
        activations=Activations(0, 0),
        loss=cuda_loss_bytes(
            model,
            half=half,
            supervised=supervised,
            head_size=module.head_size,
            chunk=chunk_size(trainer.strategy.root_device, module.head_size),
        )
        if on_cuda
        else loss_bytes(
            model,
            torch.bfloat16 if half else torch.float32,
            supervised=supervised,
            head_size=module.head_size,
        ),
        accumulates=config.trainer.accumulate_grad_batches > 1,
        backward=backward_bytes(model) if on_cuda else 0.0,
        between=max(sampling_bytes(model, _sampled_prompts(config)), 0 if on_cuda else _COPIES * weights),
    )
    flash = why_not_flash(model, trainer.strategy.root_device, str(trainer.precision)) is None
    masked = 0 if flash or not config.batch.packing else int(batch["input_ids"].shape[1])
    kept, checkpointed = (
        tuple(cuda_activations(model, half=half, checkpointing=setting, masked=masked) for setting in (False, True))
        if on_cuda
        else _count(module, batch, trainer.precision_plugin.forward_context, config)
    )
    free = torch.cuda.mem_get_info()[0] if on_cuda else available_bytes() + resident_bytes()
    run = RunMemory(
        config,
        parts,
        module,
        optimizer,
        trainer,
        batch,
        _row_tokens(parts, batch),
        None if isinstance(parts.data, StreamingDataModule) else parts.data.report.rows,
        replace(estimate, activations=kept),
        replace(estimate, activations=checkpointed),
        free if memory is None else memory,
    )
    if not probed:
        return run
    corrected = _corrected(run, run.estimate)
    extra = corrected.process - run.estimate.process
    factor = corrected.activations.per_token / max(1.0, run.estimate.activations.per_token)
    return replace(run, kept=_grown(run.kept, extra, factor), checkpointed=_grown(run.checkpointed, extra, factor))


def _grown(estimate: Estimate, extra: float, factor: float) -> Estimate:
    activations = Activations(estimate.activations.constant, estimate.activations.per_token * factor)
    return replace(estimate, process=estimate.process + extra, activations=activations)


def take_rows(batch: Batch, rows: int) -> Batch:
    """A batch of so many rows, which repeat where it has fewer."""
    chosen = torch.arange(rows) % len(batch["input_ids"])
    return {name: values[chosen] for name, values in batch.items()}


def _count(
    module: SFTModule,
    batch: Batch,
    context: Callable[[], AbstractContextManager[None]],
    config: DictConfig,
) -> tuple[Activations, Activations]:
    """What autograd keeps without and with activation checkpointing."""

    def forward(rows: int) -> tuple[int, Tensor]:
        taken = take_rows(batch, rows)
        with context():
            loss = module.training_loss(module.prepare(taken, training=True))
        return taken["input_ids"].numel(), loss

    model = module.model
    module.sample_softmax()
    keep_activations(model)
    whole = count_activations(model, forward)
    checkpoint_activations(model)
    kept = with_checkpointing(count_activations(model, forward), whole, model.config.n_layer)
    if not config.get("activation_checkpointing"):
        keep_activations(model)
    gc.collect()
    return whole, kept


def _widest_batch(parts: Parts) -> Batch:
    batches = islice(parts.data.train_dataloader(), _SAMPLED_BATCHES)
    return max(batches, key=lambda batch: batch["input_ids"].shape[1])


def _row_tokens(parts: Parts, batch: Batch) -> int:
    """The tokens of the longest row; those of streamed data are known of its first block."""
    width = int(batch["input_ids"].shape[1])
    return width if isinstance(parts.data, StreamingDataModule) else max(width, parts.data.longest)


def _sampled_prompts(config: DictConfig) -> int:
    samples = OmegaConf.select(config, "callbacks.samples")
    every = samples.get("every_n_steps") if isinstance(samples, DictConfig) else None
    return int(samples.count) if every and isinstance(samples, DictConfig) else 0


def _corrected(run: RunMemory, estimate: Estimate) -> Estimate:
    """Add what steps of one row and of two take beyond the estimate: libraries, workspaces, the allocator's gaps.

    Changes the weights, so that a run is made anew after it. Nothing is probed where the estimate is near the limit.
    """
    if 2 * run.peak(_PROBED_ROWS[-1]) > run.available:
        return estimate
    peaks: list[float] = []
    for rows in _PROBED_ROWS:
        for _ in range(2):  # the optimiser's state exists from the second step on
            make_step(run, take_rows(run.batch, rows))
        peaks.append(float(resident_bytes(peak=True)))
    first, last = (rows * int(run.batch["input_ids"].shape[1]) for rows in _PROBED_ROWS)
    counted = estimate.activations.per_token
    without_loss = peaks[-1] - peaks[0] - (estimate.loss(last) - estimate.loss(first))
    grown = min(2 * counted, max(counted, without_loss / (last - first)))
    estimate = replace(estimate, activations=Activations(estimate.activations.constant, grown))
    return replace(estimate, process=estimate.process + max(0.0, peaks[-1] - estimate.peak(last)))


def make_step(run: RunMemory, batch: Batch) -> None:
    """Make a step of one micro-batch; changes the weights."""
    back_propagate(run, batch)
    update(run)


def back_propagate(run: RunMemory, batch: Batch) -> None:
    """Compute the gradients of a micro-batch."""
    run.module.sample_softmax()
    prepared = run.module.prepare(batch, training=True)
    with run.trainer.precision_plugin.forward_context():
        loss = run.module.training_loss(prepared)
    (loss / max(1, prepared.units)).backward()


def update(run: RunMemory) -> None:
    """Clip the gradients and update the weights."""
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad()
