"""Optimisers by config: each function takes a model and its settings, and makes one."""

from torch import nn
from torch.optim import AdamW


def adamw(model: nn.Module, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019), whose decay falls on matrices only: not on biases nor on LayerNorms."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)
