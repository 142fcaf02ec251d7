"""Activation checkpointing: the backward pass computes each block's activations again instead of keeping them.

Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". Per block only its input, (B, T, C), is kept;
a step computes the blocks' forward pass twice, about a third more work. Losses and gradients are unchanged.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from resonance.model import GPT2, TransformerBlock


def checkpoint_activations(model: GPT2) -> None:
    """Make the model's blocks recompute their activations in backward passes, with the same dropout.

    Without gradients (validation, sampling) nothing changes. Names of parameters and of the state stay as they are.
    """
    for block in model.blocks:
        assert isinstance(block, TransformerBlock)
        block.forward = _checkpointed(block.forward)


def keep_activations(model: GPT2) -> None:
    """Undo `checkpoint_activations`."""
    for block in model.blocks:
        vars(block).pop("forward", None)


def _checkpointed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def checkpointed(*args: object) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*args)
        result = checkpoint(forward, *args, use_reentrant=False)
        assert isinstance(result, Tensor)
        return result

    return checkpointed
