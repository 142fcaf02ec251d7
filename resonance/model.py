"""GPT-2, from scratch: one file, read top to bottom.

It knows tensors and nothing else: no devices, no files, no tokens' meaning, no training loop. Shapes stand
beside the lines that make them, with B batch, T time, C = n_embd, H heads, D = C / H head_dim, V vocab_size.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", and OpenAI's `gpt-2/src/model.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resonance.errors import ResonanceError


class ModelError(ResonanceError):
    """A configuration or an input that no GPT-2 can have."""


@dataclass(frozen=True, slots=True)
class GPT2Config:
    """The sizes of a GPT-2. Raises ModelError when they cannot make a model."""

    vocab_size: int = 50257
    context_length: int = 1024
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.1
    tie_weights: bool = True  # the output head is the token embedding; the book's fine-tuned files have their own
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02  # the standard deviation of random weights; OpenAI's

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
        """The configuration of a model by its name on the Hub, or of our `nano`."""
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


class Cache(Protocol):
    """What attention asks of a key/value cache during generation."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, H, T, D) of one layer; return all of them so far, (B, H, S, D) each."""
        ...

    def mask(self, time: int) -> Tensor | None:
        """Who may be attended to: bool, broadcastable to (B, H, time, S); None where the plain causal mask does."""
        ...


class LayerNorm(nn.Module):
    """Normalise the last dimension to mean 0 and variance 1, then scale and shift."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class MultiHeadAttention(nn.Module):
    """Masked self-attention: each position gathers values from itself and the positions before it."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key and value in one product
        self.proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: Cache | None, layer: int, documents: Sequence[int] | None
    ) -> Tensor:
        batch, time, width = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.n_head, width // self.n_head)
        if documents is not None:
            attended = self._within(qkv, documents)  # (B, T, C)
            return F.dropout(self.proj(attended), self.dropout, self.training)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        if cache is not None:
            key, value = cache.extend(layer, key, value)  # (B, H, S, D) each
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
        )  # (B, H, T, D)
        out = self.proj(attended.transpose(1, 2).reshape(batch, time, width))  # (B, T, C)
        return F.dropout(out, self.dropout, self.training)

    def _within(self, qkv: Tensor, documents: Sequence[int]) -> Tensor:
        """Attention inside each document of packed rows: (B, T, 3, H, D) -> (B, T, C).

        Written out, as the fused one's backward pass takes a CPU twice the time for such short texts.
        """
        batch, time, _, heads, size = qkv.shape
        future = qkv.new_full((max(documents), max(documents)), -math.inf).triu(1)  # 0 where a position may look
        attended: list[Tensor] = []
        for document in qkv.flatten(0, 1).split(list(documents)):  # (L, 3, H, D)
            query, key, value = document.permute(1, 2, 0, 3)  # (H, L, D) each
            length = len(document)
            mask = future[:length, :length].expand(heads, length, length)
            with torch.autocast(qkv.device.type, enabled=False):  # which would make the softmax's output float32
                scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=size**-0.5)  # (H, L, L)
                out = F.dropout(scores.softmax(-1), self.dropout, self.training) @ value  # (H, L, D)
            attended.append(out.transpose(0, 1))
        return torch.cat(attended).reshape(batch, time, -1)


class FeedForward(nn.Module):
    """Two layers with GELU (its tanh form, as OpenAI trained it) between them, four times as wide inside."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.fc(x), approximate="tanh")  # (B, T, 4C)
        return F.dropout(self.proj(x), self.dropout, self.training)  # (B, T, C)


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward network, each normalised first and added to what came in."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attention = MultiHeadAttention(config)
        self.norm2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: Cache | None,
        layer: int,
        documents: Sequence[int] | None = None,
    ) -> Tensor:
        x = x + self.attention(self.norm1(x), mask, cache, layer, documents)
        return x + self.feed_forward(self.norm2(x))


class GPT2(nn.Module):
    """A stack of transformer blocks between an embedding of tokens and positions and a head over the vocabulary."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = _embedding(config.vocab_size, config.n_embd)
        self.position_embedding = _embedding(config.context_length, config.n_embd)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layer))
        self.norm = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.head = None if config.tie_weights else nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self._initialise()

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: Cache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits for the next token.

        `input_ids` (B, T) int64 -> (B, T, V). With `positions`, a bool mask (B, T) of n true places, the head
        runs there only: (n, V). The other arguments are those of `hidden`.
        """
        hidden = self.hidden(input_ids, position_ids=position_ids, document_ids=document_ids, cache=cache)  # (B, T, C)
        return self.logits(hidden if positions is None else hidden[positions])

    def hidden(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The last layer's normalised output, (B, T, C), before the head.

        `position_ids` (B, T) default to 0, 1, ... in each row. `document_ids` (B, T) say which document of a
        packed row a token belongs to: it attends to earlier tokens of the same one only. With a `cache`,
        `input_ids` are the new tokens and `position_ids` must say where they stand. Raises ModelError when a
        row is longer than the context.
        """
        time = input_ids.shape[1]
        if position_ids is None:
            if time > self.config.context_length:
                raise ModelError(
                    f"{time} tokens do not fit into a context of {self.config.context_length}; shorten the input."
                )
            position_ids = torch.arange(time, device=input_ids.device)  # (T,)
        x = self.token_embedding(input_ids) + self.position_embedding(position_ids)  # (B, T, C)
        x = F.dropout(x, self.config.dropout, self.training)
        mask = documents = None
        if cache is not None:
            mask = cache.mask(time)
        elif document_ids is not None and document_ids.is_cpu:
            documents = document_lengths(document_ids)  # a GPU would wait for so many small products
        elif document_ids is not None:
            mask = document_mask(document_ids)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, cache, layer, documents)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: (..., C) -> (..., V)."""
        return F.linear(hidden, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, C): the token embedding itself where weights are tied."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def num_parameters(self) -> int:
        """How many numbers the model has learned; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def resize_vocab(self, vocab_size: int) -> None:
        """Give the model `vocab_size` tokens: rows are cut off, or added as the mean of the known ones plus noise.

        The mean keeps a new token's first logit near the others' (Hewitt 2021, "Initializing new word
        embeddings"); noise of GPT-2's initial scale tells the new ones apart.
        """
        known = min(vocab_size, self.config.vocab_size)

        def resized(weight: Tensor) -> nn.Parameter:
            new = weight.mean(0, keepdim=True).repeat(vocab_size, 1)
            new += torch.empty_like(new).normal_(std=self.config.initializer_range)
            new[:known] = weight[:known]
            return nn.Parameter(new)

        if vocab_size == self.config.vocab_size:
            return
        self.token_embedding.weight = resized(self.token_embedding.weight)
        self.token_embedding.num_embeddings = vocab_size
        if self.head is not None:
            self.head.weight = resized(self.head.weight)
            self.head.out_features = vocab_size
        self.config = replace(self.config, vocab_size=vocab_size)

    @classmethod
    def from_state(cls, config: GPT2Config, state: Mapping[str, Tensor]) -> Self:
        """A model made of the given tensors themselves, without copying them."""
        with torch.device("meta"):
            model = cls(config)
        model.load_state_dict(state, assign=True)
        return model.eval()

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, n_head: int | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load weights by Hub name (once downloaded), or from a file or folder in any layout that we read.

        OpenAI's TensorFlow checkpoint, a Hugging Face folder, the book's `.pth` (whose head count is width / 64
        unless `n_head` or its settings say otherwise), or one of our own checkpoints. Raises WeightsError,
        which names what is wrong with the files.
        """
        from resonance import weights  # here, because weights' modules read the configuration class above

        config, state = weights.read(weights.resolve(name_or_path), n_head=n_head)
        if dtype is not None:
            state = {name: tensor.to(dtype) for name, tensor in state.items()}
        return cls.from_state(config, state)

    def _initialise(self) -> None:
        # OpenAI's: matrices and token embedding N(0, 0.02), positions half as wide, biases 0; projections back
        # into the residual stream are scaled down by the square root of how many are added to it.
        std = self.config.initializer_range
        if self.position_embedding.weight.is_meta:
            return  # nothing to fill
        for name, parameter in self.named_parameters():
            if name.endswith("proj.weight"):
                nn.init.normal_(parameter, std=std / math.sqrt(2 * self.config.n_layer))
            elif name == "position_embedding.weight":
                nn.init.normal_(parameter, std=std / 2)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


def document_mask(document_ids: Tensor) -> Tensor:
    """Who may attend to whom in packed rows: (B, T) int -> (B, 1, T, T) bool, causal and within one document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return same.tril().unsqueeze(1)


def document_lengths(document_ids: Tensor) -> list[int]:
    """Tokens of each document of packed rows (B, T), row after row; padding counts as one."""
    rows = torch.arange(len(document_ids))[:, None]
    whose = document_ids + rows * (int(document_ids.max()) + 2)  # of its own number in each row
    return torch.unique_consecutive(whose.flatten(), return_counts=True)[1].tolist()


def _embedding(count: int, width: int) -> nn.Embedding:
    # Without random numbers of its own, on which the meta device spends a second and 90 MB of imports.
    return nn.Embedding.from_pretrained(torch.empty(count, width), freeze=False)
