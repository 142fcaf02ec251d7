"""Initial weights of a run: random ones of the sizes in the config, or pretrained ones.

Random weights can contain induction heads (Olsson et al. 2022, "In-context learning and induction heads"), which find
an earlier occurrence of the current tokens and copy what followed it. Answering from a text needs them. They span two
layers that are useful only together, so training finds them late: a demo model without them is still guessing among the
values in its context when its minutes are over. Here, two heads of the first layer start by gathering the last few
tokens; heads of the second layer attend to positions where the same tokens were gathered one step earlier, and copy the
token there. All other residual outputs start at zero, so that no noise drowns the heads. All weights train as usual;
the architecture is GPT-2's. Similar: Trockman and Kolter 2023, "Mimetic initialization of self-attention layers".
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from resonance import lora, weights
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.hydra_config import ConfigError
from resonance.model import GPT2, TransformerBlock
from resonance.model_config import GPT2Config
from resonance.provenance import sha256_of_weights

_FREQUENCIES = 12  # of the sinusoidal positions; each takes two dimensions of the embedding
_MAX_FREQUENCY = 0.5  # radians per token: a head attends about equally to some five neighbouring tokens
_PEAK = 8.0  # attention logit of a gathering head at its centre
_CENTRES = (2.0, 3.0)  # offsets, in tokens back, of the two gathering heads: one step apart
_MATCH = 1.4  # scale of the copying heads' queries and keys
_GATHERED, _COPIED = 3.0, 4.0  # scale of the heads' outputs, in multiples of the embedding's


@dataclass(frozen=True, slots=True)
class InitialModel:
    """A model to train, and its pretrained weights (`base`; None: random ones).

    `trained_length` is the longest sequence, in tokens, that the weights have been trained on; 0 for random ones.
    """

    model: GPT2
    base: str | None
    base_sha256: str | None
    trained_length: int


def init_model(
    pretrained: str | Path | None,
    sizes: GPT2Config,
    template: ChatTemplate,
    *,
    seed: int,
    n_head: int | None = None,
    adapter: lora.LoraConfig | None = None,
    induction_heads: int = 0,
) -> InitialModel:
    """Create the model to train from `pretrained` weights, or random ones of `sizes`, drawn from `seed`.

    Random weights contain `induction_heads` induction heads. The vocabulary is resized to the template's tokenizer.
    With an `adapter`, only the adapter and the embeddings of added tokens train. Raises WeightsError when weights
    cannot be read, ConfigError when the model cannot have the heads, and AdapterError when the adapter does not fit.
    """
    torch.manual_seed(seed)
    if pretrained is None:
        model = GPT2(replace(sizes, vocab_size=template.tokenizer.vocab_size))
        if induction_heads:
            add_induction_heads(model, induction_heads)
        if adapter is not None:
            lora.inject(model, adapter)
        return InitialModel(model, None, None, 0)
    path = weights.resolve(pretrained)
    config, state = weights.read(path, n_head=n_head)
    # A copy in float32: tensors that are mapped from a file must not be trained.
    state = {
        name: tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    model = GPT2.from_state(replace(config, dropout=sizes.dropout), state)
    del state  # the model holds the tensors; an adapter may replace them by smaller ones
    model.requires_grad_(True)
    model.resize_vocab(template.tokenizer.vocab_size)
    if adapter is not None:
        lora.inject(model, adapter, new_tokens=max(0, model.config.vocab_size - config.vocab_size))
    return InitialModel(model, str(pretrained), sha256_of_weights(path), Checkpoint.open(path).window.history_length)


@torch.no_grad()
def add_induction_heads(model: GPT2, heads: int) -> None:
    """Give a model of random weights `heads` induction heads in its second layer, drawn by torch's generator.

    Raises ConfigError when the model has no second layer, or too few heads.
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
    used = 2 * frequencies  # dimensions of the embedding with positions; the tokens' are zero there at first
    angles = _MAX_FREQUENCY * (torch.arange(frequencies) + torch.rand(frequencies)) / frequencies
    _init_positions(model, angles)
    tokens = torch.zeros(config.head_dim, config.n_embd)  # projection of a token that is gathered
    tokens[:, used:] = _orthonormal(config.head_dim, config.n_embd - used)
    gathered = _orthonormal(2 * config.head_dim, config.n_embd)
    near, far = gathered.split(config.head_dim)  # subspaces that the gathering heads write to, (head_dim, C) each
    for head, (centre, target) in enumerate(zip(_CENTRES, (near, far), strict=True)):
        _init_gathering_head(model, head, centre, angles, tokens, target)
    copied = _orthonormal(heads * config.head_dim, config.n_embd - used)
    for head in range(heads):
        query, key, value, out = _head_weights(model, 1, head)
        query.copy_(_MATCH * near)
        key.copy_(_MATCH * far)
        value.zero_()
        content = copied[head * config.head_dim : (head + 1) * config.head_dim]  # (at most head_dim, C - used)
        value[: len(content), used:] = content
        out.copy_(_COPIED * config.initializer_range * value.T)


def _init_positions(model: GPT2, angles: Tensor) -> None:
    """Sinusoids in the position embedding's first dimensions, at the scale of the token embedding."""
    used = 2 * len(angles)
    positions = torch.arange(model.config.context_length)[:, None] * angles  # (T, frequencies)
    scale = math.sqrt(2) * model.config.initializer_range
    weight = model.position_embedding.weight
    weight.zero_()
    weight[:, 0:used:2], weight[:, 1:used:2] = scale * positions.cos(), scale * positions.sin()
    model.token_embedding.weight[:, :used] = 0


def _init_gathering_head(model: GPT2, head: int, centre: float, angles: Tensor, tokens: Tensor, target: Tensor) -> None:
    """Make a head of the first layer attend `centre` tokens back and write the projected token into `target`."""
    query, key, value, out = _head_weights(model, 0, head)
    gain = math.sqrt(_PEAK * math.sqrt(model.config.head_dim) / (2 * len(angles)))
    query.mul_(0.1)
    key.mul_(0.1)
    for i, angle in enumerate((angles * centre).tolist()):
        pair = slice(2 * i, 2 * i + 2)
        rotation = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        query[pair, pair] += gain * rotation
        key[pair, pair] += gain * torch.eye(2)
    value.copy_(tokens)
    out.copy_(_GATHERED * model.config.initializer_range * target.T)


def _head_weights(model: GPT2, layer: int, head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of a head's query, key and value matrices, (head_dim, C) each, and its output matrix, (C, head_dim)."""
    block = model.blocks[layer]
    assert isinstance(block, TransformerBlock)
    attention = block.attention
    width, size = model.config.n_embd, model.config.head_dim
    rows = slice(head * size, (head + 1) * size)
    query, key, value = (part[rows] for part in attention.qkv.weight.split(width))
    return query, key, value, attention.proj.weight[:, rows]


def _orthonormal(rows: int, columns: int) -> Tensor:
    """Random orthonormal rows; at most as many as there are columns."""
    return torch.linalg.qr(torch.randn(columns, min(rows, columns)))[0].T
