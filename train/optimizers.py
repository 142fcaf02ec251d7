"""Optimisers, configured by `configs/optimizer/`: each function takes a model and settings."""

from torch import nn
from torch.optim import AdamW

from resonance.hydra_config import ConfigError
from resonance.model import GPT2
from train.muon import MuonAdamW


def adamw(model: nn.Module, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019); only matrices decay, not biases and LayerNorms."""
    _check_betas(betas)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)


def muon(
    model: GPT2,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    adamw_lr: float,
    adamw_betas: tuple[float, float],
    adamw_eps: float,
) -> MuonAdamW:
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for embeddings, head, biases and LayerNorms.

    `lr` is Muon's; `weight_decay` applies to all matrices.
    """
    if not 0 <= momentum < 1:
        raise ConfigError(f"optimizer.momentum must be at least 0 and less than 1, not {momentum}.")
    if adamw_lr <= 0:
        raise ConfigError(f"optimizer.adamw_lr must be more than 0, not {adamw_lr}.")
    _check_betas(adamw_betas, "adamw_betas")
    inside = {id(parameter) for parameter in model.blocks.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rest = {"muon": False, "lr": adamw_lr, "betas": (adamw_betas[0], adamw_betas[1]), "eps": adamw_eps}
    matrices = [p for p in trained if p.dim() >= 2]
    groups = [
        {
            "params": [p for p in matrices if id(p) in inside],
            "muon": True,
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
        },
        {"params": [p for p in matrices if id(p) not in inside], "weight_decay": weight_decay, **rest},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0, **rest},
    ]
    return MuonAdamW([group for group in groups if group["params"]])


def _check_betas(betas: tuple[float, float], name: str = "betas") -> None:
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"optimizer.{name} must be two numbers of at least 0 and less than 1, not {list(betas)}.")
