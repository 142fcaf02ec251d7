"""Compiles the transformer blocks by torch.compile, in training alone.

A block is compiled in two parts, before and after its attention, which stays with the kernels that compute it document
by document. What the compiler sees then has one shape for each number of rows, (rows, time, width): neither a batch's
documents nor the number of the layer make it compile anew, and all blocks share what it made of the first.
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from lightning import Trainer
from omegaconf import DictConfig
from torch import Tensor
from torch._dynamo import config as dynamo

from resonance.hydra_config import ConfigError
from resonance.metadata import Metadata
from resonance.model import GPT2, Cache, Documents, TransformerBlock
from train import fsdp
from train.activation_checkpointing import checkpoint_activations
from train.cpu_kernels import leave_to_compiler

# Micro-batches from which on compiling pays on a GPU: half a minute of it, at 15 ms saved by each. Both are estimates.
FEWEST_MICRO_BATCHES = 2_000
BACKEND = "inductor"

# x (B, T, C) -> queries, keys and values (B, T, 3C); x and what attention gathered (B, T, C) -> x (B, T, C).
_Before = Callable[[TransformerBlock, Tensor], Tensor]
_After = Callable[[TransformerBlock, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Compilation:
    """Whether a run's blocks are compiled, and sentences about it for the log."""

    compiled: bool
    notes: Sequence[str] = ()


def compile_blocks(config: DictConfig, model: GPT2, trainer: Trainer, recorded: Metadata | None) -> Compilation:
    """Compile the blocks of a model where the config's `compile` says so; older runs, without the key, do not.

    `auto` keeps to what the `recorded` run did. Raises ConfigError where `compile=true` cannot be kept; `auto` then
    leaves the blocks as they are. Names of parameters and of the state stay as they are.
    """
    wanted, device = config.get("compile", False), trainer.strategy.root_device
    if wanted is False:
        return Compilation(compiled=False)
    before = None if recorded is None else recorded.training.get("compiled")
    if wanted == "auto" and before is not True:
        if device.type != "cuda" or before is False:
            return Compilation(compiled=False)
        micro_batches = trainer.max_steps * trainer.accumulate_grad_batches
        if micro_batches < FEWEST_MICRO_BATCHES:
            return _not_compiled(
                f"{micro_batches:,} micro-batches are fewer than the {FEWEST_MICRO_BATCHES:,} it pays for"
            )
    reason = why_not(config, device)
    if reason is None:
        try:
            seconds = _compile(config, model, trainer)
        # Inductor's errors, and those of compilers and drivers that it calls.
        except (RuntimeError, OSError) as error:
            reason = f"torch.compile failed with {type(error).__name__}: {_first_line(error)}"
        else:
            return Compilation(True, [f"blocks are compiled, but for attention; the first took {seconds:.0f} s"])
    if wanted is True:
        raise ConfigError(f"compile=true cannot be kept: {reason}; set compile=false.")
    return _not_compiled(reason)


def why_not(config: DictConfig, device: torch.device) -> str | None:
    """Why the blocks of a run cannot be compiled on a device, as a clause; None: they can."""
    if device.type not in ("cpu", "cuda"):
        return f"blocks are compiled for cpu and cuda, not for {device.type}"
    if not config.batch.packing:
        return "with batch.packing=false each batch has another length, and would be compiled anew"
    base_dtype = config.adapter.get("base_dtype", "fp32") if config.get("adapter") else "fp32"
    if base_dtype != "fp32":
        return f"adapter.base_dtype={base_dtype} converts its weights in a way that is not compiled"
    if config.trainer.get("strategy") == fsdp.NAME:
        return f"trainer.strategy={fsdp.NAME} gathers the weights of whole blocks, and parts of them are compiled"
    if device.type == "cuda" and config.trainer.deterministic is True:
        return "the compiler chooses GPU kernels by timing them, so that trainer.deterministic=true would not hold"
    return None


def _compile(config: DictConfig, model: GPT2, trainer: Trainer) -> float:
    """Compile the blocks, and try a copy of the first on the run's device; returns the seconds that it took.

    Raises what torch.compile raises; the model is then unchanged.
    """
    torch.compiler.reset()  # an earlier run of this process, as in a sweep, is over
    # Numbers of rows: an epoch's batches differ by one, those of small data by more. LoRA's first layer has no gradient
    # of its input.
    dynamo.recompile_limit = max(dynamo.recompile_limit, 2 * config.batch.size)
    before: _Before = torch.compile(_before_attention, dynamic=False, backend=BACKEND)
    after: _After = torch.compile(_after_attention, dynamic=False, backend=BACKEND)
    started_at = time.perf_counter()
    _try(before, after, config, model, trainer)
    seconds = time.perf_counter() - started_at
    leave_to_compiler(model.blocks)
    for block in model.blocks:
        assert isinstance(block, TransformerBlock)
        vars(block).pop("forward", None)  # activation checkpointing, which goes around what is compiled
        block.forward = _compiled(block, before, after)
    if config.get("activation_checkpointing"):
        checkpoint_activations(model)
    return seconds


def _compiled(block: TransformerBlock, before: _Before, after: _After) -> Callable[..., Tensor]:
    plain = block.forward

    def forward(
        x: Tensor, mask: Tensor | None, cache: Cache | None, layer: int, documents: Documents | None = None
    ) -> Tensor:
        if cache is not None or not torch.is_grad_enabled():  # sampling and validation, whose lengths differ
            return plain(x, mask, cache, layer, documents)
        return after(block, x, block.attention.attend(before(block, x), mask, None, layer, documents))

    return forward


def _before_attention(block: TransformerBlock, x: Tensor) -> Tensor:
    return block.attention.qkv(block.norm1(x))


def _after_attention(block: TransformerBlock, x: Tensor, attended: Tensor) -> Tensor:
    attention = block.attention
    x = x + attention.residual_dropout(attention.proj(attended))
    return x + block.feed_forward(block.norm2(x))


def _try(before: _Before, after: _After, config: DictConfig, model: GPT2, trainer: Trainer) -> None:
    """One forward and backward pass of a copy of the first block over rows of one document each."""
    device, precision = trainer.strategy.root_device, trainer.precision_plugin
    context_length = model.config.context_length
    rows, time_ = config.batch.size, min(config.batch.row_length or context_length, context_length)
    block = deepcopy(model.blocks[0])
    assert isinstance(block, TransformerBlock)
    leave_to_compiler(block)
    block.train()
    precision.convert_module(block).to(device)  # both in place
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad(), precision.forward_context():
        x = torch.zeros(rows, time_, model.config.n_embd, device=device, dtype=block.norm1.weight.dtype)
        x.requires_grad_()
        y = _compiled(block, before, after)(x, None, None, 0)
    y.sum().backward()


def _not_compiled(reason: str) -> Compilation:
    return Compilation(compiled=False, notes=[f"blocks are not compiled: {reason}"])


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message").rstrip(".")
