"""Low-rank adapters (LoRA): inject, merge, save, load.

The model's own weights are frozen. Beside each target matrix W (out, in) two thin ones are trained, A (rank, in) and
B (out, rank), and the layer computes with W + scaling B A. B starts at zero, so that training starts at the base model.
The model knows nothing of adapters: `inject` replaces its layers, `merge` restores plain ones.

Query, key and value are one matrix in GPT-2 and share one A and one B: all three project their input onto the same
`rank` directions, and each has its own rows of B. An A for each would be half as many parameters again, and would
differ from peft's adapter of the same weights.

The frozen weights can be held in bf16 or int8 (`LoraConfig.base_dtype`). The adapter is then trained over these rounded
weights, and merged into them. peft opens the adapter over the weights as they were before rounding.

Sources: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"; Liu et al. 2024, "DoRA".
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from resonance.frozen_weights import FrozenLinear, as_held
from resonance.lora_layers import TARGETS, AdapterError, GrownEmbedding, LoraConfig, LowRankLinear
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from resonance.weights import peft
from resonance.weights.state_dict import check, shapes

EMBEDDINGS = ("token_embedding", "head")  # matrices with a row for each token

__all__ = [
    "TARGETS",
    "AdapterError",
    "LoraConfig",
    "MergedState",
    "config_of",
    "describe",
    "head_rows",
    "inject",
    "load",
    "memory_of_base",
    "merge",
    "plain",
    "save",
]


def inject(model: GPT2, config: LoraConfig, *, new_tokens: int = 0) -> None:
    """Freeze the model and add an adapter, with A drawn from torch's random numbers.

    The output is unchanged, except for the rounding of the frozen weights to `config.base_dtype`.

    The last `new_tokens` rows of the vocabulary, which a template has added, are trained too, because they are noise.
    Raises AdapterError when the model has an adapter already, or is narrower than the rank.
    """
    if config_of(model) is not None:
        raise AdapterError("The model has an adapter already; merge it first.")
    if config.rank > model.config.n_embd:
        width = model.config.n_embd
        raise AdapterError(f"An adapter's rank must be at most the model's width, {width}, not {config.rank}.")
    model.requires_grad_(False)
    compact = config.base_dtype != "fp32"
    for name, module in list(model.blocks.named_modules()):
        if isinstance(module, nn.Linear):
            target = name.partition(".")[2]  # without the block's number
            frozen = FrozenLinear(module.weight, module.bias, config.base_dtype) if compact else module
            model.blocks.set_submodule(name, LowRankLinear(frozen, config) if target in config.targets else frozen)
    dtype = torch.bfloat16 if compact else torch.float32
    for name in EMBEDDINGS if new_tokens or compact else ():
        if (embedding := getattr(model, name)) is not None:
            model.set_submodule(name, GrownEmbedding(embedding.weight.detach(), new_tokens, dtype))
    model.train(model.training)  # the new modules take over the model's mode


@torch.no_grad()
def merge(model: GPT2) -> None:
    """Merge the adapter into the weights: a plain GPT2, all of it trainable. Without an adapter nothing changes."""
    if config_of(model) is None:
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, LowRankLinear):
            model.set_submodule(name, _linear(module.merged(), module.frozen.bias))
        elif isinstance(module, FrozenLinear) and not name.endswith(".frozen"):
            model.set_submodule(name, _linear(module.weight, module.bias))
        elif isinstance(module, GrownEmbedding):
            layer = _linear(module.weight, None)
            model.set_submodule(name, layer if name == "head" else nn.Embedding.from_pretrained(layer.weight))
    model.requires_grad_(True)


def head_rows(model: GPT2) -> tuple[Tensor, Tensor | None]:
    """Return the head's rows, (V, C), or those of the base's tokens and the trained ones of new tokens, apart."""
    head: nn.Module = model.token_embedding if model.head is None else model.head
    return (head.known, head.new) if isinstance(head, GrownEmbedding) else (model.head_weight, None)


def memory_of_base(model: GPT2) -> tuple[int, int]:
    """Return the bytes of the frozen weights as they are held, and as they would be in float32."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    scales = [m.row_scales for m in model.modules() if isinstance(m, FrozenLinear) and m.row_scales is not None]
    weights = sum(parameter.numel() for parameter in frozen) - sum(scale.numel() for scale in scales)
    return sum(parameter.nbytes for parameter in frozen), 4 * weights


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
        # Absent where they are the defaults, as in runs that began before these settings existed.
        **({"dora": True} if config.dora else {}),
        **({} if config.base_dtype == "fp32" else {"base_dtype": config.base_dtype}),
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
        dora=config.dora,
        base_dtype=config.base_dtype,
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
    config = LoraConfig(
        stored.rank, stored.alpha, stored.dropout, targets, stored.rslora, stored.dora, stored.base_dtype
    )
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
    if stored.base_crc32 not in (None, _checksum_of_base(model, vocab_size - base_size, config.base_dtype)):
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
            if config.dora:
                parameters[f"blocks.{layer}.{target}.lora_magnitude"] = (outputs,)
    grown = [name for name in EMBEDDINGS if new_tokens and f"{name}.weight" in matrices]
    return parameters | {f"{name}.new": (new_tokens, sizes.n_embd) for name in grown}


def _new_tokens(model: GPT2) -> int:
    embedding: nn.Module = model.token_embedding
    return len(embedding.new) if isinstance(embedding, GrownEmbedding) and embedding.new is not None else 0


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A plain layer of the tensors themselves."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach())
    return layer


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


def _checksum_of_base(model: GPT2, new_tokens: int, base_dtype: str = "fp32") -> str:
    """Compute the CRC-32 of an adapter's base weights, without the last `new_tokens` rows of the vocabulary.

    The weights are those that the adapter is trained over: those of a plain model are rounded to `base_dtype`.
    """
    crc = 0
    for name in shapes(model.config):
        tensor = as_held(name, _tensor(model, name, merged=False), base_dtype)
        if name.removesuffix(".weight") in EMBEDDINGS:
            tensor = tensor[: len(tensor) - new_tokens]
        crc = zlib.crc32(tensor.float().cpu().contiguous().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
