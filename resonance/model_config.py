"""The configuration of a GPT-2, and the configurations of the released models.

A module of its own, because `weights/` reads and writes it and `model.py` imports `weights/`.
"""

from dataclasses import dataclass

from resonance.errors import ResonanceError


class ModelError(ResonanceError):
    """A configuration or an input that a GPT-2 cannot have."""


@dataclass(frozen=True, slots=True)
class GPT2Config:
    """The sizes of a GPT-2. Raises ModelError when they do not make a model."""

    vocab_size: int = 50257
    context_length: int = 1024
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.1
    tie_weights: bool = True  # the output head shares the token embedding's matrix
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02  # standard deviation of random weights

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.n_embd % self.n_head:
            raise ModelError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head}).")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout must be in [0, 1), not {self.dropout}.")

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.n_embd // self.n_head

    @classmethod
    def preset(cls, name: str) -> "GPT2Config":
        """Return the configuration of a model by its name on the Hub, or of our `nano`. Raises ModelError."""
        if name not in PRESETS:
            raise ModelError(f"There is no preset {name!r}; there are {', '.join(PRESETS)}.")
        return PRESETS[name]


PRESETS = {
    "nano": GPT2Config(n_layer=4, n_head=4, n_embd=256, context_length=512, dropout=0.0, initializer_range=0.05),
    "gpt2": GPT2Config(n_layer=12, n_head=12, n_embd=768),
    "gpt2-medium": GPT2Config(n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": GPT2Config(n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": GPT2Config(n_layer=48, n_head=25, n_embd=1600),
}
