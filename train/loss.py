"""The training objective: cross-entropy over supervised tokens, with the head applied a chunk at a time.

The head is the widest product of a GPT-2 (and most of the work of a small one), so it runs for supervised positions
only, and the logits of all positions never exist at once: each chunk's gradient is formed while its logits are there.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100  # a label that is not supervised
CHUNK = 1024  # positions whose logits exist at the same time: 200 MB of float32 with GPT-2's vocabulary


def supervised_loss(hidden: Tensor, head_weight: Tensor, labels: Tensor, *, chunk: int = CHUNK) -> tuple[Tensor, int]:
    """Sum the cross-entropy over supervised positions.

    `hidden` (B, T, C), `head_weight` (V, C), `labels` (B, T) int64 with IGNORE where nothing is to be learned.
    Returns the sum (a scalar, float32) and how many positions it is over; divide one by the other for a mean.
    """
    wanted = labels != IGNORE  # (B, T)
    targets = labels[wanted]  # (n,)
    total = _ChunkedCrossEntropy.apply(hidden[wanted], head_weight, targets, chunk)
    assert isinstance(total, Tensor)
    return total, int(targets.numel())


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(target); both gradients are made in the forward pass and only scaled in the backward one."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        learning = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        head_learns = ctx.needs_input_grad[1]
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_grad = torch.empty_like(hidden)
        weight_grad: Tensor | None = None
        with torch.autocast(device, enabled=False):
            matrix = weight.to(dtype)  # (V, C)
            for start in range(0, len(targets), chunk):
                rows, wanted = hidden[start : start + chunk].to(dtype), targets[start : start + chunk, None]
                scores = F.log_softmax(rows @ matrix.T, -1, dtype=torch.float32)  # (n, V)
                total -= scores.gather(1, wanted).sum()
                if not learning:
                    continue
                slope = scores.exp_()  # d loss / d logits = p - 1 at the target, p elsewhere
                slope.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=torch.float32))
                slope = slope.to(dtype)
                hidden_grad[start : start + chunk] = slope @ matrix
                if not head_learns:  # beneath an adapter it stays as it is
                    continue
                part = slope.T @ rows  # (V, C)
                weight_grad = part.to(weight.dtype) if weight_grad is None else weight_grad.add_(part)
        if head_learns and weight_grad is None:  # nothing was supervised
            weight_grad = torch.zeros_like(weight)
        if learning:
            ctx.save_for_backward(hidden_grad, weight_grad)
        return total

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, Tensor | None, None, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad, None if weight_grad is None else weight_grad * grad, None, None
