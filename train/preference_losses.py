"""The losses of preference training, from the log-probabilities of whole answers.

DPO: Rafailov et al. 2023, "Direct Preference Optimization". KTO: Ethayarajh et al. 2024, "KTO: Model Alignment as
Prospect Theoretic Optimization". A reward is beta times how much more likely the answer is than under the reference.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.losses import IGNORE, chunk_size, rounded_up


def sequence_log_probs(
    hidden: Tensor,
    head_weight: Tensor,
    labels: Tensor,
    *,
    supervised_at: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """The log-probability of each row's labels: (B, T, C), (V, C), (B, T) int64 -> (B,) float32.

    Sums over the positions whose label is not IGNORE, which are `supervised_at` (n,) int64 in the flattened labels;
    without it a GPU is waited for. The logits of `chunk` positions exist at once, or of `chunk_size`; the backward
    pass computes them again.
    """
    flat = labels.flatten()
    if supervised_at is None:
        supervised_at = (flat != IGNORE).nonzero()[:, 0]
    chunk, at = chunk or chunk_size(hidden.device, len(head_weight)), rounded_up(supervised_at)
    of_tokens = _ChunkedLogProbs.apply(hidden.flatten(0, -2)[at], head_weight, flat[at], chunk)
    assert isinstance(of_tokens, Tensor)
    of_tokens = of_tokens[: len(supervised_at)]  # (n,)
    spread = torch.zeros(len(flat), device=labels.device).index_copy(0, supervised_at, of_tokens)  # (B T,)
    return spread.view(labels.shape).sum(1)


def dpo_losses(rewards_chosen: Tensor, rewards_rejected: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The loss of each pair, (n,), from the rewards (n,) of its answers.

    `label_smoothing` is the assumed share of pairs whose answers are the wrong way round (conservative DPO).
    """
    margins = rewards_chosen - rewards_rejected
    return -(1 - label_smoothing) * F.logsigmoid(margins) - label_smoothing * F.logsigmoid(-margins)


def kto_losses(
    rewards: Tensor, desirable: Tensor, reference_point: Tensor, desirable_weight: float, undesirable_weight: float
) -> Tensor:
    """The loss of each vote, (n,), from the rewards (n,) and votes (n,) bool of the answers.

    `reference_point` is beta times the divergence from the reference, a scalar without a gradient. The loss is
    weight * (1 - sigmoid(reward - reference_point)) for a desirable answer; for an undesirable one the difference
    has the other sign.
    """
    sign, weights = torch.where(desirable, 1.0, -1.0), torch.where(desirable, desirable_weight, undesirable_weight)
    return weights * (1 - torch.sigmoid(sign * (rewards - reference_point)))


class _ChunkedLogProbs(torch.autograd.Function):
    """log p(target) at each position; (n, C), (V, C), (n,) -> (n,) float32."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int
    ) -> Tensor:
        device = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        ctx.chunk = chunk
        ctx.save_for_backward(hidden, weight, targets)
        result = hidden.new_empty(len(targets), dtype=torch.float32)
        with torch.autocast(device, enabled=False):
            matrix = weight.to(ctx.dtype)  # (V, C)
            for start in range(0, len(targets), chunk):
                part = slice(start, start + chunk)
                log_probs = F.log_softmax(hidden[part].to(ctx.dtype) @ matrix.T, -1, dtype=torch.float32)  # (m, V)
                result[part] = log_probs.gather(1, targets[part, None])[:, 0]
        return result

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, Tensor | None, None, None]:
        hidden, weight, targets = ctx.saved_tensors
        hidden_grad = torch.empty_like(hidden)
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(ctx.dtype)  # (V, C)
            for start in range(0, len(targets), ctx.chunk):
                part = slice(start, start + ctx.chunk)
                rows, target = hidden[part].to(ctx.dtype), targets[part, None]
                slope = -F.softmax(rows @ matrix.T, -1, dtype=torch.float32)  # (m, V): d log p / d logits, but for 1
                slope.scatter_add_(1, target, torch.ones_like(target, dtype=torch.float32))
                slope = (slope * grad[part, None]).to(ctx.dtype)
                hidden_grad[part] = slope @ matrix
                if weight_grad is not None:
                    weight_grad += slope.T @ rows
        return hidden_grad, weight_grad, None, None
