"""Optimisers, configured by `configs/optimizer/`: each function takes a model and settings."""

import logging
from collections.abc import Callable, Set
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf
from torch import nn
from torch.optim import AdamW, Optimizer

from resonance import weights
from resonance.checkpoint import TRAIN_FILE
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
    layer_decay: float = 1.0,
    cpu_offload: bool = False,
) -> AdamW | OffloadedAdamW:
    """AdamW (Loshchilov and Hutter 2019); only matrices decay, not biases and LayerNorms.

    `layer_decay` is that of `layer_scales`. With `cpu_offload` the moments are in the CPU's memory while the parameters
    are on a GPU.
    """
    _check_betas(betas)
    groups = _by_layer(model, _by_decay(model, weight_decay), layer_decay, lr=lr)
    if cpu_offload:
        return OffloadedAdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps)
    return AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)


def adamw_8bit(
    model: GPT2,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    full_embeddings: bool,
    layer_decay: float = 1.0,
) -> Optimizer:
    """AdamW with 8-bit moments (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"), by bitsandbytes.

    Vectors of less than 4,096 elements have moments in float32, and with `full_embeddings` the embeddings too, as that
    paper recommends. Raises ConfigError when bitsandbytes is not installed.
    """
    _check_betas(betas)
    adamw_class = _bitsandbytes_adamw({id(model.token_embedding.weight)} if full_embeddings else set())
    groups = _by_layer(model, _by_decay(model, weight_decay), layer_decay, lr=lr)
    return adamw_class(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps)


def muon(
    model: GPT2,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    adamw_lr: float,
    adamw_betas: tuple[float, float],
    adamw_eps: float,
    layer_decay: float = 1.0,
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
    return MuonAdamW(_by_layer(model, [group for group in groups if group["params"]], layer_decay, lr=lr))


def layer_scales(model: GPT2, layer_decay: float) -> dict[str, float]:
    """Return the factor of the learning rate of each trained parameter, by its name.

    The last block, the last LayerNorm and an untied head train at the full rate, each block below at `layer_decay`
    times the rate of the one above it, and the embeddings, with a tied head, at that of a block below the first. Rows
    of new tokens, which know nothing yet, train at the full rate. Source: Howard and Ruder 2018, "Universal language
    model fine-tuning for text classification"; Clark et al. 2020 ("ELECTRA") for Transformers.
    """
    layers = len(model.blocks)

    def scale(name: str) -> float:
        if name.startswith("blocks."):
            return layer_decay ** (layers - 1 - int(name.split(".")[1]))
        return layer_decay**layers if "embedding" in name and not name.endswith(".new") else 1.0

    return {name: scale(name) for name, parameter in model.named_parameters() if parameter.requires_grad}


def muon_warning(optimizer: str, base: str | None, *, adapter: bool) -> str | None:
    """Return a sentence against Muon for the full fine-tuning of weights that it did not train; otherwise None.

    `optimizer` is the target of the optimiser's config, `base` the weights that training starts from. Qu et al. 2026
    ("Can Muon fine-tune Adam-pretrained models?") found that it disrupts what Adam taught, and that LoRA prevents it.
    """
    if base is None or adapter or not _is_muon(optimizer):
        return None
    path = weights.resolve(base)
    record = (path if path.is_dir() else path.parent) / TRAIN_FILE
    if record.is_file() and _is_muon(str(OmegaConf.select(OmegaConf.load(record), "optimizer._target_"))):
        return None
    return (
        f"optimizer=muon disrupts what AdamW taught, and {base} was probably trained by AdamW (Qu et al. 2026); "
        "optimizer=adamw, or adapter=lora with Muon, is safer."
    )


def _is_muon(target: str) -> bool:
    return target == f"{muon.__module__}.{muon.__name__}"


def _check_betas(betas: object, name: str = "betas") -> None:
    match betas:
        case [int() | float() as first, int() | float() as second] if 0 <= first < 1 and 0 <= second < 1:
            return
        case _:
            raise ConfigError(f"optimizer.{name} must be two numbers of at least 0 and less than 1, not {betas}.")


def _by_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: the trained matrices, which decay, and the other trained parameters, which do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]


def _by_layer(model: nn.Module, groups: list[dict[str, Any]], layer_decay: float, *, lr: float) -> list[dict[str, Any]]:
    """Split parameter groups by the rate of their layers; the first group's rate is the full one.

    `lr` is that of groups without their own. With a decay of 1 the groups stay as they are.
    """
    if layer_decay == 1:
        return groups
    if not isinstance(model, GPT2):
        raise ConfigError(f"optimizer.layer_decay={layer_decay} needs a GPT-2; set it to 1.")
    scales = layer_scales(model, layer_decay)
    by_id = {id(parameter): scales[name] for name, parameter in model.named_parameters() if name in scales}
    split: list[dict[str, Any]] = []
    for group in groups:
        for scale in sorted({by_id[id(parameter)] for parameter in group["params"]}, reverse=True):
            members = [parameter for parameter in group["params"] if by_id[id(parameter)] == scale]
            split.append({**group, "params": members, "lr": group.get("lr", lr) * scale})
    return split


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
