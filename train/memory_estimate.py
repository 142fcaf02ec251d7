"""Estimates the memory of training, in bytes, before a step is made.

Parameters, gradients and optimiser state follow from the parameters. Activations grow with the tokens of a micro-batch:
`count_activations` counts what autograd keeps of real micro-batches of one row and of two, so that it holds for every
model, adapter and option of the objective. `cuda_memory.py` has formulas for a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import AdamW, Optimizer

from resonance import lora
from resonance.model import GPT2
from train.losses import CHUNK
from train.muon import MuonAdamW
from train.offload import OffloadedAdamW

FULL, HALF = 4, 2  # bytes of a number in float32 and in bf16
_BITSANDBYTES_BLOCK, _BITSANDBYTES_SMALLEST = 256, 4096  # elements of a scale, and of the smallest quantised tensor


@dataclass(frozen=True, slots=True)
class Activations:
    """What autograd keeps from the forward pass for the backward pass: `constant` + `per_token` * tokens bytes."""

    constant: float
    per_token: float

    def of(self, tokens: int) -> float:
        """The bytes of a micro-batch of so many tokens, padding included."""
        return self.constant + self.per_token * tokens


@dataclass(frozen=True, slots=True)
class Estimate:
    """The memory of a training process, in bytes.

    `process` is what it holds without the model: libraries and data. `accumulates` says whether several micro-batches
    make a step, so that gradients are there while activations are. `backward` is what the end of the backward pass
    needs beside the gradients. `between` is the need of what comes between steps: sampling answers, and writing the
    weights.
    """

    process: float
    weights: float
    gradients: float
    optimizer: float
    activations: Activations
    loss: Callable[[int], float]  # the buffers of the head's loss, for a micro-batch's tokens
    accumulates: bool
    backward: float = 0.0
    between: float = 0.0

    def peak(self, tokens: int) -> float:
        """The most memory at once, with so many tokens in a micro-batch."""
        step = self.activations.of(tokens) + self.loss(tokens) + (self.gradients if self.accumulates else 0)
        return self.process + self.weights + self.optimizer + max(step, self.gradients + self.backward, self.between)


def gradient_bytes(model: nn.Module) -> int:
    """The bytes of the gradients of all trained parameters."""
    return sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)


def optimizer_bytes(optimizer: Optimizer) -> int | None:
    """The bytes of an optimiser's state on the parameters' device; None for an optimiser that is not known here."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if isinstance(optimizer, OffloadedAdamW):
        return 0
    if isinstance(optimizer, AdamW):
        return sum(2 * parameter.nbytes for parameter in parameters)
    if isinstance(optimizer, MuonAdamW):
        groups = optimizer.param_groups
        return sum((1 if group["muon"] else 2) * p.nbytes for group in groups for p in group["params"])
    config_of = getattr(optimizer, "get_config", None)  # bitsandbytes
    if config_of is None:
        return None
    total = 0.0
    for i, group in enumerate(optimizer.param_groups):
        for j, parameter in enumerate(group["params"]):
            small = parameter.numel() < _BITSANDBYTES_SMALLEST
            full = small or config_of(i, j, group)["optim_bits"] == 32
            total += parameter.numel() * 2 * (FULL if full else 1 + FULL / _BITSANDBYTES_BLOCK)
    return int(total)


def count_activations(model: GPT2, forward: Callable[[int], tuple[int, Tensor]]) -> Activations:
    """Count what `forward` keeps for its backward pass with one row and with two.

    `forward` takes that number, and returns the number of their tokens and the loss.
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def kept(rows: int) -> tuple[int, int]:
        found: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(count, lambda tensor: tensor):
            tokens, loss = forward(rows)
        total = sum(found.values())
        del loss
        return tokens, total

    (tokens, one), (more_tokens, two) = kept(1), kept(2)
    per_token = max(0.0, (two - one) / (more_tokens - tokens)) if more_tokens > tokens else one / tokens
    return Activations(max(0.0, one - per_token * tokens), per_token)


def quantised_bytes(model: GPT2, *, full_embeddings: bool) -> int:
    """The bytes of 8-bit moments, as `optimizer=adamw_8bit` holds them."""
    total = 0.0
    for parameter in model.parameters():
        embedding = full_embeddings and parameter is model.token_embedding.weight
        full = parameter.numel() < _BITSANDBYTES_SMALLEST or embedding
        if parameter.requires_grad:
            total += parameter.numel() * 2 * (FULL if full else 1 + FULL / _BITSANDBYTES_BLOCK)
    return int(total)


def with_checkpointing(kept: Activations, whole: Activations, n_layer: int) -> Activations:
    """Activations with checkpointing: what is `kept`, and one block's share of the `whole`, which it computes again."""
    return Activations(kept.constant + whole.constant / n_layer, kept.per_token + whole.per_token / n_layer)


def loss_bytes(model: GPT2, dtype: torch.dtype, *, supervised: float, head_size: int) -> Callable[[int], float]:
    """The buffers of the head's loss, as a function of a micro-batch's tokens, a share `supervised` of which counts.

    Forward: a copy of the head's matrix and its gradient in `dtype`, and the logits of one chunk of positions.
    Backward: the scaled gradient of the head in float32 (the unscaled one is among the activations).
    """
    width, size = model.config.n_embd, dtype.itemsize
    trains = model.head_weight.requires_grad
    matrices = head_size * width * size * (2 if trains else 1)
    scaled = head_size * width * FULL if trains else 0

    def of(tokens: int) -> float:
        positions = min(CHUNK, max(1.0, tokens * supervised))
        return max(matrices + head_size * size * positions, scaled)

    return of


def sampling_bytes(model: GPT2, prompts: int) -> float:
    """The key/value cache of sampling answers to `prompts`, and an adapter's merged copies of the weights."""
    config = model.config
    cache = prompts * config.context_length * 2 * config.n_layer * config.n_embd * FULL
    adapted = [module for module in model.modules() if isinstance(module, lora.LowRankLinear)]
    return cache + sum(module.frozen.weight.nbytes for module in adapted) if prompts else 0.0
