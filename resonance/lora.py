"""Low-rank adapters (LoRA): inject, merge, save, load.

The model's own weights are frozen. Beside each target matrix W (out, in) two thin ones are trained, A (rank, in) and
B (out, rank), and the layer computes with W + scaling B A. B starts at zero, so that training starts at the base model.
The model knows nothing of adapters: `inject` replaces its layers, `merge` restores plain ones.

Query, key and value are one matrix in GPT-2 and share one A and one B: all three project their input onto the same
`rank` directions, and each has its own rows of B. An A for each would be half as many parameters again, and would
differ from peft's adapter of the same weights.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resonance.errors import ResonanceError
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.weights import peft
from resonance.weights.state_dict import check, listed, shapes

TARGETS = ("attention.qkv", "attention.proj", "feed_forward.fc", "feed_forward.proj")  # a block's matrices
EMBEDDINGS = ("token_embedding", "head")  # matrices with a row for each token


class AdapterError(ResonanceError):
    """Invalid adapter settings, or an adapter that does not fit the model."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Which matrices are adapted, and how. Raises AdapterError for invalid values."""

    rank: int = 8
    alpha: float = 16.0  # the update is alpha / rank times B A
    dropout: float = 0.0  # of the update's input, during training
    targets: Sequence[str] = TARGETS
    rslora: bool = False  # alpha / sqrt(rank) instead, which lets high ranks learn (Kalajdzievski 2023)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", (self.targets,) if isinstance(self.targets, str) else tuple(self.targets))
        if self.rank < 1:
            raise AdapterError(f"An adapter's rank must be at least 1, not {self.rank}.")
        if self.alpha <= 0:
            raise AdapterError(f"An adapter's alpha must be more than 0, not {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise AdapterError(f"An adapter's dropout must be in [0, 1), not {self.dropout}.")
        unknown = [target for target in self.targets if target not in TARGETS]
        if unknown or not self.targets:
            given = listed(unknown) or "nothing"
            raise AdapterError(f"An adapter's targets must be some of {', '.join(TARGETS)}, not {given}.")

    @property
    def scaling(self) -> float:
        """The factor of B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LowRankLinear(nn.Module):
    """A frozen layer plus its trained update: (..., in) -> (..., out)."""

    def __init__(self, frozen: nn.Linear, config: LoraConfig) -> None:
        super().__init__()
        self.frozen, self.config = frozen, config
        self.lora_a = nn.Parameter(frozen.weight.new_empty(config.rank, frozen.in_features))
        self.lora_b = nn.Parameter(frozen.weight.new_zeros(frozen.out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as torch initialises nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        narrow = F.linear(F.dropout(x, self.config.dropout, self.training), self.lora_a)  # (..., rank)
        return self.frozen(x) + F.linear(narrow * self.config.scaling, self.lora_b)  # (..., out)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Compute W + scaling B A, (out, in)."""
        return torch.addmm(self.frozen.weight, self.lora_b, self.lora_a, alpha=self.config.scaling)


class GrownEmbedding(nn.Module):
    """An embedding, or a head, of which only the last rows are trained: those of tokens that the base does not have."""

    def __init__(self, weight: Tensor, new: int) -> None:
        super().__init__()
        self.known = nn.Parameter(weight[:-new], requires_grad=False)
        self.new = nn.Parameter(weight[-new:].clone())

    @property
    def weight(self) -> Tensor:
        """All rows, (V, C)."""
        return torch.cat([self.known, self.new])

    def forward(self, ids: Tensor) -> Tensor:
        count = len(self.known)
        known = F.embedding(ids.clamp(max=count - 1), self.known)  # (B, T, C)
        new = F.embedding((ids - count).clamp(min=0), self.new)
        return torch.where((ids < count)[..., None], known, new)


def inject(model: GPT2, config: LoraConfig, *, new_tokens: int = 0) -> None:
    """Freeze the model and add an adapter, with A drawn from torch's random numbers; the output is unchanged.

    The last `new_tokens` rows of the vocabulary, which a template has added, are trained too, because they are noise.
    Raises AdapterError when the model has an adapter already, or is narrower than the rank.
    """
    if config_of(model) is not None:
        raise AdapterError("The model has an adapter already; merge it first.")
    if config.rank > model.config.n_embd:
        width = model.config.n_embd
        raise AdapterError(f"An adapter's rank must be at most the model's width, {width}, not {config.rank}.")
    model.requires_grad_(False)
    for layer in range(model.config.n_layer):
        for target in config.targets:
            name = f"blocks.{layer}.{target}"
            frozen = model.get_submodule(name)
            assert isinstance(frozen, nn.Linear)
            model.set_submodule(name, LowRankLinear(frozen, config))
    for name in EMBEDDINGS if new_tokens else ():
        if (embedding := getattr(model, name)) is not None:
            model.set_submodule(name, GrownEmbedding(embedding.weight.detach(), new_tokens))
    model.train(model.training)  # the new modules take over the model's mode


@torch.no_grad()
def merge(model: GPT2) -> None:
    """Merge the adapter into the weights: a plain GPT2, all of it trainable. Without an adapter nothing changes."""
    if config_of(model) is None:
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, LowRankLinear):
            module.frozen.weight = nn.Parameter(module.merged())
            model.set_submodule(name, module.frozen)
        elif isinstance(module, GrownEmbedding):
            vocab_size, width = module.weight.shape
            layer = nn.Linear(width, vocab_size, bias=False, device="meta")
            layer.weight = nn.Parameter(module.weight)
            model.set_submodule(name, layer if name == "head" else nn.Embedding.from_pretrained(layer.weight))
    model.requires_grad_(True)


def plain(model: GPT2) -> GPT2:
    """Return the model without an adapter: a merged copy that shares unadapted tensors, or a plain model itself."""
    return model if config_of(model) is None else GPT2.from_state(model.config, MergedState(model))


class MergedState(Mapping[str, Tensor]):
    """A model's merged state dict; each tensor is computed on access, so that no second model is in memory."""

    def __init__(self, model: GPT2) -> None:
        self._model, self._shapes = model, shapes(model.config)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._shapes:
            raise KeyError(name)
        return _tensor(self._model, name, merged=True)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def config_of(model: GPT2) -> LoraConfig | None:
    """Return the settings of the model's adapter; None where it has none."""
    return next((module.config for module in model.modules() if isinstance(module, LowRankLinear)), None)


def describe(model: GPT2) -> dict[str, object] | None:
    """Describe the model's adapter, with a checksum of its base weights; None where there is none."""
    if (config := config_of(model)) is None:
        return None
    return {
        "type": "lora",
        "rank": config.rank,
        "alpha": config.alpha,
        "dropout": config.dropout,
        "rslora": config.rslora,
        "targets": list(config.targets),
        "new_tokens": _new_tokens(model),
        "base_crc32": _checksum_of_base(model, _new_tokens(model)),
    }


def save(model: GPT2, folder: str | Path, *, base: str | None = None) -> dict[str, object]:
    """Write the adapter alone, in a folder that peft opens; `base` names the base weights for peft.

    Returns `describe(model)`. Raises AdapterError when the model has no adapter.
    """
    config, described = config_of(model), describe(model)
    if config is None or described is None:
        raise AdapterError(f"The model has no adapter that could be saved in {folder}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    new, parameters = _new_tokens(model), dict(model.named_parameters())
    stored = peft.StoredAdapter(
        rank=config.rank,
        alpha=config.alpha,
        dropout=config.dropout,
        rslora=config.rslora,
        tensors={name: parameters[name].detach().cpu() for name in _shapes(config, model.config, new)},
        added=range(model.config.vocab_size - new, model.config.vocab_size),
        base=base,
        base_crc32=str(described["base_crc32"]),
    )
    peft.write(folder, stored)
    return described


@torch.no_grad()
def load(model: GPT2, folder: str | Path) -> None:
    """Add an adapter that `save` or peft wrote to a plain model; the vocabulary grows by the adapter's new tokens.

    Raises AdapterError when the adapter belongs to another base, and WeightsError when its files are missing, damaged
    or no plain LoRA; the model is then unchanged.
    """
    stored = peft.read(Path(folder))
    targets = [target for target in TARGETS if f"blocks.0.{target}.lora_a" in stored.tensors]
    config = LoraConfig(stored.rank, stored.alpha, stored.dropout, targets, stored.rslora)
    vocab_size = model.config.vocab_size
    base_size = stored.added.start if stored.added else vocab_size
    if vocab_size not in (base_size, stored.added.stop):
        raise AdapterError(f"The adapter in {folder} adds tokens from {base_size} on, and the model has {vocab_size}.")
    expected = _shapes(config, model.config, len(stored.added))
    for name in sorted(expected.keys() ^ stored.tensors.keys()):
        verb = "lacks" if name in expected else "has"
        raise AdapterError(f"The adapter in {folder} is not one of a model like this: it {verb} {name}.")
    for name, shape in expected.items():
        check(name, stored.tensors[name], shape, f"the adapter in {folder}")
    if stored.base_crc32 not in (None, _checksum_of_base(model, vocab_size - base_size)):
        raise AdapterError(
            f"The adapter in {folder} was trained over other weights than the model's; "
            f"load it over {stored.base or 'the random ones that it began with'}."
        )
    if stored.added:
        model.resize_vocab(stored.added.stop)
    inject(model, config, new_tokens=len(stored.added))
    for name in expected:
        model.get_parameter(name).copy_(stored.tensors[name])


def _shapes(config: LoraConfig, sizes: GPT2Config, new_tokens: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the adapter's parameters by name."""
    matrices = shapes(sizes)
    parameters: dict[str, tuple[int, ...]] = {}
    for layer in range(sizes.n_layer):
        for target in config.targets:
            outputs, inputs = matrices[f"blocks.{layer}.{target}.weight"]
            parameters[f"blocks.{layer}.{target}.lora_a"] = (config.rank, inputs)
            parameters[f"blocks.{layer}.{target}.lora_b"] = (outputs, config.rank)
    grown = [name for name in EMBEDDINGS if new_tokens and f"{name}.weight" in matrices]
    return parameters | {f"{name}.new": (new_tokens, sizes.n_embd) for name in grown}


def _new_tokens(model: GPT2) -> int:
    embedding: nn.Module = model.token_embedding
    return len(embedding.new) if isinstance(embedding, GrownEmbedding) else 0


def _tensor(model: GPT2, name: str, *, merged: bool) -> Tensor:
    """Return a tensor by its name in a plain model, with its update or without."""
    owner, _, kind = name.rpartition(".")
    module = model.get_submodule(owner)
    if isinstance(module, LowRankLinear):
        if merged and kind == "weight":
            return module.merged()
        module = module.frozen
    tensor = getattr(module, kind)
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def _checksum_of_base(model: GPT2, new_tokens: int) -> str:
    """Compute the CRC-32 of an adapter's base weights, without the last `new_tokens` rows of the vocabulary."""
    crc = 0
    for name in shapes(model.config):
        tensor = _tensor(model, name, merged=False)
        if name.removesuffix(".weight") in EMBEDDINGS:
            tensor = tensor[: len(tensor) - new_tokens]
        crc = zlib.crc32(tensor.float().cpu().contiguous().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
