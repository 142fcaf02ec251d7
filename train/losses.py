"""The training objective: cross-entropy over supervised tokens, with the head applied a chunk at a time.

The head is the widest product of a GPT-2 (and most of the work of a small one), so it runs for supervised positions
only, and the logits of all positions never exist at once: each chunk's gradient is formed while its logits are there.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100  # a label that is not supervised
CHUNK = 1024  # positions whose logits exist at the same time: 200 MB of float32 with GPT-2's vocabulary


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tokens that one step's softmax runs over, in place of the whole vocabulary.

    token_ids: (K,) int64. log_weights: (K,) float32, how many tokens each stands for. places: (V,) int64, where a
    token is among the candidates; -1 where it is none.
    """

    token_ids: Tensor
    log_weights: Tensor
    places: Tensor


class SampledSoftmax:
    """Draws candidates: the tokens that the data uses, and some of the others, which stand for all of them.

    The head of a small model is most of its work, and most of GPT-2's vocabulary does not occur in small data. The
    sum of exponentials over the sampled tokens, weighted, has the whole sum as its mean (Jean et al. 2015, "On using
    very large target vocabulary for neural machine translation").
    """

    def __init__(self, used: Tensor, vocab_size: int, count: int) -> None:
        """`used` (U,) int64 are always candidates, every label among them; `count` of the others are drawn a step."""
        self._used = used
        self._others = torch.ones(vocab_size, dtype=torch.bool).index_fill_(0, used, False).nonzero()[:, 0]
        self._count = min(count, len(self._others))
        self._places = torch.full((vocab_size,), -1).index_copy_(0, used, torch.arange(len(used)))

    def draw(self, device: torch.device) -> Candidates:
        """Candidates for a step, by torch's seed."""
        drawn = self._others[torch.randperm(len(self._others))[: self._count]]
        log_weights = torch.zeros(len(self._used) + self._count)
        if self._count:
            log_weights[len(self._used) :] = math.log(len(self._others) / self._count)
        ids = torch.cat([self._used, drawn])
        return Candidates(ids.to(device), log_weights.to(device), self._places.to(device))


def supervised_loss(
    hidden: Tensor, head_weight: Tensor, labels: Tensor, candidates: Candidates | None = None, *, chunk: int = CHUNK
) -> tuple[Tensor, int]:
    """Sum the cross-entropy over supervised positions.

    `hidden` (B, T, C), `head_weight` (V, C), `labels` (B, T) int64 with IGNORE where nothing is to be learned. With
    `candidates`, all labels among them, the softmax runs over these only.
    Returns the sum (a scalar, float32) and how many positions it is over; divide one by the other for a mean.
    """
    wanted = labels != IGNORE  # (B, T)
    targets = labels[wanted]  # (n,)
    log_weights = None
    if candidates is not None:
        head_weight = head_weight[candidates.token_ids]  # (K, C)
        targets, log_weights = candidates.places[targets], candidates.log_weights
    total = _ChunkedCrossEntropy.apply(hidden[wanted], head_weight, targets, log_weights, chunk)
    assert isinstance(total, Tensor)
    return total, int(targets.numel())


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(target); both gradients are made in the forward pass and only scaled in the backward one."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, log_weights: Tensor | None, chunk: int
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
                logits = rows @ matrix.T  # (n, V)
                if log_weights is not None:
                    logits = logits + log_weights
                scores = F.log_softmax(logits, -1, dtype=torch.float32)
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
    ) -> tuple[Tensor, Tensor | None, None, None, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad, None if weight_grad is None else weight_grad * grad, None, None, None
