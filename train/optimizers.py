"""Optimisers by config: each function takes a model and its settings, and makes one."""

from torch import nn
from torch.optim import AdamW

from resonance.config import ConfigError


def adamw(model: nn.Module, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019), whose decay falls on matrices only: not on biases nor on LayerNorms."""
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"optimizer.betas must be two numbers of at least 0 and less than 1, not {list(betas)}.")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)
