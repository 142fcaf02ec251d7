"""The layers of an adapter, and its settings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resonance.errors import ResonanceError
from resonance.frozen_weights import BASE_DTYPES, FrozenLinear
from resonance.weights.state_dict import listed

TARGETS = ("attention.qkv", "attention.proj", "feed_forward.fc", "feed_forward.proj")  # a block's matrices


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
    dora: bool = False  # train each row's length apart from its direction (Liu et al. 2024)
    base_dtype: str = "fp32"  # in which the frozen weights are held: fp32, bf16 or int8

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
        for name in ("rslora", "dora"):
            if not isinstance(getattr(self, name), bool):
                raise AdapterError(f"An adapter's {name} must be true or false, not {getattr(self, name)!r}.")
        if self.base_dtype not in BASE_DTYPES:
            raise AdapterError(
                f"An adapter's base_dtype must be one of {', '.join(BASE_DTYPES)}, not {self.base_dtype!r}."
            )

    @property
    def scaling(self) -> float:
        """The factor of B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LowRankLinear(nn.Module):
    """A frozen layer plus its trained update: (..., in) -> (..., out).

    With `dora`, each row of W + scaling B A is also brought to a trained length, its magnitude (out,), which starts at
    the length of W's row. The length that is divided by counts as a constant in the backward pass (Liu et al. 2024,
    "DoRA: Weight-decomposed low-rank adaptation", section 4.3). Dropout falls on the low-rank update alone.
    """

    lora_magnitude: nn.Parameter | None
    squared_lengths: Tensor | None

    def __init__(self, frozen: nn.Linear | FrozenLinear, config: LoraConfig) -> None:
        super().__init__()
        self.frozen, self.config = frozen, config
        weight = frozen.weight.detach()
        self.lora_a = nn.Parameter(weight.new_empty(config.rank, frozen.in_features))
        self.lora_b = nn.Parameter(weight.new_zeros(frozen.out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as torch initialises nn.Linear
        squared = weight.square().sum(1) if config.dora else None  # (out,)
        self.register_buffer("squared_lengths", squared, persistent=False)
        self.lora_magnitude = None if squared is None else nn.Parameter(squared.sqrt())

    def forward(self, x: Tensor) -> Tensor:
        narrow = F.linear(F.dropout(x, self.config.dropout, self.training), self.lora_a)  # (..., rank)
        update = F.linear(narrow * self.config.scaling, self.lora_b)  # (..., out)
        if self.lora_magnitude is None:
            return self.frozen(x) + update
        bias = self.frozen.bias
        product = self.frozen(x) + update  # (..., out)
        gain = self._gain().to(product.dtype)
        if bias is None:
            return gain * product
        bias = bias.to(product.dtype)
        return gain * (product - bias) + bias

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Compute the matrix that the layer amounts to, (out, in): W + scaling B A, its rows rescaled with DoRA."""
        weight = torch.addmm(self.frozen.weight, self.lora_b, self.lora_a, alpha=self.config.scaling)
        return weight if self.lora_magnitude is None else self._gain()[:, None] * weight

    def _gain(self) -> Tensor:
        """The factor of each row of W + scaling B A, (out,); exactly 1 at first.

        The squared lengths are |W|^2 + 2 W.(s B A) + |s B A|^2 by row, computed without a matrix as large as W's.
        """
        assert self.lora_magnitude is not None and self.squared_lengths is not None
        with torch.no_grad(), torch.autocast(self.lora_a.device.type, enabled=False):
            a, b, scaling = self.lora_a, self.lora_b, self.config.scaling
            crossed = (self.frozen.weight @ a.T * b).sum(1)  # (out,)
            own = (b @ (a @ a.T) * b).sum(1)  # (out,)
            lengths = (self.squared_lengths + 2 * scaling * crossed + scaling**2 * own).clamp(min=0).sqrt()
            lengths = torch.where(lengths > 0, lengths, 1.0)  # a row of zeros stays zero
        return self.lora_magnitude / lengths


class GrownEmbedding(nn.Module):
    """An embedding, or a head, of which only the last rows are trained, if any: those of tokens new to the base.

    The other rows are frozen in `dtype`; the output is float32.
    """

    new: nn.Parameter | None

    def __init__(self, weight: Tensor, new: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        count = len(weight) - new
        self.known = nn.Parameter(weight[:count].to(dtype), requires_grad=False)
        self.new = nn.Parameter(weight[count:].clone()) if new else None

    @property
    def weight(self) -> Tensor:
        """All rows, (V, C) float32."""
        known = self.known.float()
        return known if self.new is None else torch.cat([known, self.new])

    def forward(self, ids: Tensor) -> Tensor:
        count = len(self.known)
        known = F.embedding(ids.clamp(max=count - 1), self.known).float()  # (B, T, C)
        if self.new is None:
            return known
        new = F.embedding((ids - count).clamp(min=0), self.new)
        return torch.where((ids < count)[..., None], known, new)
