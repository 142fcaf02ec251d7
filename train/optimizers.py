"""Optimisers, configured by `configs/optimizer/`: each function takes a model and settings."""

import logging
from collections.abc import Callable, Set
from importlib import import_module
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from resonance.hydra_config import ConfigError
from resonance.model import GPT2
from train.muon import MuonAdamW
from train.offload import OffloadedAdamW


def adamw(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    cpu_offload: bool = False,
) -> AdamW | OffloadedAdamW:
    """AdamW (Loshchilov and Hutter 2019); only matrices decay, not biases and LayerNorms.

    With `cpu_offload` the moments are in the CPU's memory while the parameters are on a GPU.
    """
    _check_betas(betas)
    groups = _by_decay(model, weight_decay)
    if cpu_offload:
        return OffloadedAdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps)
    return AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)


def adamw_8bit(
    model: GPT2, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, full_embeddings: bool
) -> Optimizer:
    """AdamW with 8-bit moments (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"), by bitsandbytes.

    Vectors of less than 4,096 elements have moments in float32, and with `full_embeddings` the embeddings too, as that
    paper recommends. Raises ConfigError when bitsandbytes is not installed.
    """
    _check_betas(betas)
    adamw_class = _bitsandbytes_adamw({id(model.token_embedding.weight)} if full_embeddings else set())
    return adamw_class(_by_decay(model, weight_decay), lr=lr, betas=(betas[0], betas[1]), eps=eps)


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


def _by_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: the trained matrices, which decay, and the other trained parameters, which do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]


def _bitsandbytes_adamw(full: Set[int]) -> Callable[..., Optimizer]:
    """Bitsandbytes' AdamW8bit, with float32 moments for the parameters whose ids are in `full`."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it recommends kernels that are not used here
    try:
        base: Any = import_module("bitsandbytes.optim").AdamW8bit
    except ImportError as error:
        raise ConfigError(
            "optimizer=adamw_8bit needs bitsandbytes: pip install 'resonance[memory]', or use optimizer=adamw."
        ) from error

    class AdamW8bit(base):
        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            config: dict[str, Any] = super().get_config(gindex, pindex, group)
            if id(group["params"][pindex]) in full:
                config["optim_bits"] = 32
            return config

    return AdamW8bit
