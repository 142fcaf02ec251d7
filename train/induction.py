"""Random weights that can look things up in their context from the first step on.

To answer from a text, a model has to find where the same words stood before and go on as it went on there: induction
heads (Olsson et al. 2022, "In-context learning and induction heads"). They are two layers that are of use only
together, so that plain random weights find them late: the demo's model is still guessing among the values in its
context when its minutes are over. Here the first layer begins with two heads that gather the last few tokens, and the
second with heads that attend to where the same tokens were gathered one step earlier, and copy what stands there; all
else begins with writing nothing, so that no noise drowns them. Everything is trained on as usual; the architecture is
GPT-2's. In the same spirit: Trockman and Kolter 2023, "Mimetic initialization of self-attention layers".
"""

import math

import torch
from torch import Tensor

from resonance.hydra_config import ConfigError
from resonance.model import GPT2, TransformerBlock

_FREQUENCIES = 12  # of position; as many pairs of dimensions of the embedding hold it
_HIGHEST = 0.5  # radians a token: low enough that a head sees some five neighbouring tokens alike
_PEAK = 8.0  # a gathering head's logit where it looks
_CENTRES = (2.0, 3.0)  # how many tokens back the two gathering heads look: a step apart
_MATCH = 1.4  # of queries and keys
_GATHERED, _COPIED = 3.0, 4.0  # what heads write, as multiples of the embedding's scale


@torch.no_grad()
def add_induction_heads(model: GPT2, heads: int) -> None:
    """Give a model of random weights `heads` induction heads in its second layer; random numbers are torch's.

    Raises ConfigError when it has no second layer, or too few heads.
    """
    config = model.config
    if config.n_layer < 2 or config.n_head < 2 or heads > config.n_head:
        raise ConfigError(
            f"model.induction_heads={heads} needs two layers, two heads in each and no more than there are; "
            f"this model has {config.n_layer} layers of {config.n_head} heads."
        )
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):
            parameter.zero_()
    frequencies = min(_FREQUENCIES, config.head_dim // 2)
    used = 2 * frequencies  # dimensions of the embedding that hold positions, and no token at first
    angles = _HIGHEST * (torch.arange(frequencies) + torch.rand(frequencies)) / frequencies
    _place_positions(model, angles)
    words = torch.zeros(config.head_dim, config.n_embd)  # what of a token is gathered
    words[:, used:] = _orthonormal(config.head_dim, config.n_embd - used)
    gathered = _orthonormal(2 * config.head_dim, config.n_embd)
    early, late = gathered.split(config.head_dim)  # where the two gathering heads write, (head_dim, C) each
    for head, (centre, place) in enumerate(zip(_CENTRES, (early, late), strict=True)):
        _gather(model, head, centre, angles, words, place)
    copied = _orthonormal(heads * config.head_dim, config.n_embd - used)
    for head in range(heads):
        query, key, value, out = _parts(model, 1, head)
        query.copy_(_MATCH * early)
        key.copy_(_MATCH * late)
        value.zero_()
        mine = copied[head * config.head_dim : (head + 1) * config.head_dim]  # (at most head_dim, C - used)
        value[: len(mine), used:] = mine
        out.copy_(_COPIED * config.initializer_range * value.T)


def _place_positions(model: GPT2, angles: Tensor) -> None:
    """Sinusoids in the embedding's first dimensions, as wide as the tokens' in the others."""
    used = 2 * len(angles)
    positions = torch.arange(model.config.context_length)[:, None] * angles  # (T, frequencies)
    width = math.sqrt(2) * model.config.initializer_range
    weight = model.position_embedding.weight
    weight.zero_()
    weight[:, 0:used:2], weight[:, 1:used:2] = width * positions.cos(), width * positions.sin()
    model.token_embedding.weight[:, :used] = 0


def _gather(model: GPT2, head: int, centre: float, angles: Tensor, words: Tensor, place: Tensor) -> None:
    """Have a head of the first layer look `centre` tokens back, and write what it finds where `place` says."""
    query, key, value, out = _parts(model, 0, head)
    gain = math.sqrt(_PEAK * math.sqrt(model.config.head_dim) / (2 * len(angles)))
    query.mul_(0.1)
    key.mul_(0.1)
    for i, angle in enumerate((angles * centre).tolist()):
        pair = slice(2 * i, 2 * i + 2)
        turned_back = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        query[pair, pair] += gain * turned_back
        key[pair, pair] += gain * torch.eye(2)
    value.copy_(words)
    out.copy_(_GATHERED * model.config.initializer_range * place.T)


def _parts(model: GPT2, layer: int, head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A head's query, key and value matrices, (head_dim, C) each, and the one that writes, (C, head_dim): views."""
    block = model.blocks[layer]
    assert isinstance(block, TransformerBlock)
    attention = block.attention
    width, size = model.config.n_embd, model.config.head_dim
    rows = slice(head * size, (head + 1) * size)
    query, key, value = (part[rows] for part in attention.qkv.weight.split(width))
    return query, key, value, attention.proj.weight[:, rows]


def _orthonormal(rows: int, columns: int) -> Tensor:
    """Random rows of length 1 at right angles to each other; at most as many as there are columns."""
    return torch.linalg.qr(torch.randn(columns, min(rows, columns)))[0].T
