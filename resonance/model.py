"""GPT-2, from scratch: one file, read top to bottom.

It knows tensors and nothing else: no devices, no tokenisation, no training loop. Shapes stand beside the lines that
make them: B batch, T time, C = n_embd, H heads, D = C / H head_dim, V vocab_size.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", and OpenAI's `gpt-2/src/model.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resonance import weights
from resonance.model_config import GPT2Config, ModelError


class Cache(Protocol):
    """The key/value cache that attention uses during generation."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store one layer's new keys and values, and attend to all up to each token; (B, H, T, D) in and out."""
        ...


class Documents(NamedTuple):
    """The documents of packed rows, row after row; a row's padding counts as a document."""

    lengths: Sequence[int]  # they sum to the number N of tokens
    starts: Tensor  # (lengths + 1 or more,) int32: where each begins, then N
    longest: int  # at least the longest length

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        """Return documents of these lengths, on the CPU."""
        starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return cls(lengths, starts, max(lengths))


# Attention inside documents: queries, keys and values (N, 3, H, D), the documents, and the dropout's probability
# -> (N, H, D).
DocumentAttention = Callable[[Tensor, Documents, float], Tensor]


class MultiHeadAttention(nn.Module):
    """Masked self-attention: each position gathers values from itself and the positions before it."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.attend_documents: DocumentAttention = attend_documents  # training may set one that computes it faster
        self.n_head, self.dropout = config.n_head, config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key and value in one matrix product
        self.proj = nn.Linear(config.n_embd, config.n_embd)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: Cache | None, layer: int, documents: Documents | None
    ) -> Tensor:
        y = self.attend(self.qkv(x), mask, cache, layer, documents)  # (B, T, C)
        return self.residual_dropout(self.proj(y))  # (B, T, C)

    def attend(
        self, qkv: Tensor, mask: Tensor | None, cache: Cache | None, layer: int, documents: Documents | None
    ) -> Tensor:
        """Gather the values of queries, keys and values side by side, (B, T, 3C) -> (B, T, C)."""
        B, T, C = *qkv.shape[:2], qkv.shape[2] // 3
        qkv = qkv.view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, H, D)
        dropout = self.dropout if self.training else 0.0
        if documents is not None:
            return self.attend_documents(qkv.flatten(0, 1), documents, dropout).reshape(B, T, C)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        if cache is not None:
            y = cache.attend(layer, query, key, value)  # (B, H, T, D)
        else:
            y = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None, dropout_p=dropout
            )  # (B, H, T, D)
        return y.transpose(1, 2).reshape(B, T, C)


class FeedForward(nn.Module):
    """Two layers, four times as wide inside, with GELU between them (its tanh form, as OpenAI trained it)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.gelu = nn.GELU(approximate="tanh")
        self.proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.fc(x))  # (B, T, 4C)
        return self.residual_dropout(self.proj(x))  # (B, T, C)


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward network; each normalises its input and adds its output to the residual stream."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attention = MultiHeadAttention(config)
        self.norm2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: Cache | None, layer: int, documents: Documents | None = None
    ) -> Tensor:
        x = x + self.attention(self.norm1(x), mask, cache, layer, documents)  # (B, T, C)
        return x + self.feed_forward(self.norm2(x))  # (B, T, C)


class GPT2(nn.Module):
    """A stack of transformer blocks between an embedding of tokens and positions and a head over the vocabulary."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = _empty_embedding(config.vocab_size, config.n_embd)
        self.position_embedding = _empty_embedding(config.context_length, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.head = None if config.tie_weights else nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self._init_weights()

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        documents: Documents | None = None,
        cache: Cache | None = None,
        return_hidden_states: bool = False,
    ) -> Tensor:
        """Compute the logits of each next token, (B, T) int64 -> (B, T, V).

        With `return_hidden_states` the head is left out: the last layer's normalised output, (B, T, C), which
        `logits` takes. `position_ids` (B, T) default to 0, 1, ... in each row. `document_ids` (B, T) give the document
        of each token of a packed row: it attends to earlier tokens of the same document only.
        `documents` say the same for attention that is computed document by document. With a `cache`, `input_ids` are
        the new tokens and `position_ids` their positions. Raises ModelError when a row is longer
        than the context.
        """
        T = input_ids.shape[1]
        if position_ids is None:
            if self.config.context_length < T:
                raise ModelError(
                    f"{T} tokens do not fit into a context of {self.config.context_length}; shorten the input."
                )
            position_ids = torch.arange(T, device=input_ids.device)  # (T,)
        x = self.dropout(self.token_embedding(input_ids) + self.position_embedding(position_ids))  # (B, T, C)
        mask = None
        if document_ids is not None and documents is None:
            if document_ids.is_cpu:
                documents = Documents.of(document_lengths(document_ids))
            else:  # a GPU is slower with many small products than with one mask
                mask = document_mask(document_ids)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, cache, layer, documents)  # (B, T, C)
        x = self.norm(x)
        return x if return_hidden_states else self.logits(x)

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Apply the head: (..., C) -> (..., V)."""
        return F.linear(hidden_states, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix (V, C): the token embedding's where weights are tied."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def num_parameters(self) -> int:
        """Count the parameters; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def resize_vocab(self, vocab_size: int) -> None:
        """Give the model `vocab_size` tokens: cut rows off, or add rows that are the mean of the known ones plus noise.

        The mean keeps a new token's first logit near the others' (Hewitt 2021, "Initializing new word
        embeddings"); noise of GPT-2's initial scale makes the new rows differ.
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
        """Make a model of the given tensors themselves, without copying them."""
        with torch.device("meta"):
            model = cls(config)
        model.load_state_dict(state, assign=True)
        return model.eval()

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, n_head: int | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load weights by Hub name (once downloaded), or from a file or folder in any layout that `weights` reads.

        OpenAI's TensorFlow checkpoint, a Hugging Face folder, the `.pth` of *Build a Large Language Model (From
        Scratch)* (whose head count is width / 64 unless `n_head` or its settings give another), or one of our own
        checkpoints. Raises WeightsError, which names what is wrong with the files.
        """
        config, state = weights.read(weights.resolve(name_or_path), n_head=n_head)
        if dtype is not None:
            state = {name: tensor.to(dtype) for name, tensor in state.items()}
        return cls.from_state(config, state)

    def _init_weights(self) -> None:
        """Draw weights as OpenAI did: N(0, 0.02) for matrices and token embeddings, half of it for positions.

        Projections back into the residual stream are scaled down by the square root of how many it adds up; biases
        are 0.
        """
        if self.position_embedding.weight.is_meta:
            return  # no numbers to fill, and `normal_` on the meta device imports 90 MB
        std = self.config.initializer_range
        stds: dict[nn.Module, float] = {self.position_embedding: std / 2}
        for module in self.modules():
            if isinstance(module, MultiHeadAttention | FeedForward):
                stds[module.proj] = std / math.sqrt(2 * self.config.n_layer)
            elif isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=stds.get(module, std))
            if isinstance(module, nn.Linear) and module is not self.head:
                nn.init.zeros_(module.bias)


def document_mask(document_ids: Tensor) -> Tensor:
    """Mask attention in packed rows: (B, T) int -> (B, 1, T, T) bool, causal and within one document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]  # (B, T, T)
    return same.tril().unsqueeze(1)


def attend_documents(qkv: Tensor, documents: Documents, dropout: float) -> Tensor:
    """Attend inside each document: (N, 3, H, D) -> (N, H, D).

    Written out, because the fused kernel's backward pass takes twice the time on a CPU for such short sequences.
    """
    H, D = qkv.shape[2:]
    lengths = list(documents.lengths)
    causal = qkv.new_full((max(lengths), max(lengths)), -math.inf).triu(1)  # 0 where a query attends to a key
    attended: list[Tensor] = []
    for document in qkv.split(lengths):  # (L, 3, H, D)
        query, key, value = document.permute(1, 2, 0, 3)  # (H, L, D) each
        L = len(document)
        mask = causal[:L, :L].expand(H, L, L)
        with torch.autocast(qkv.device.type, enabled=False):  # autocast would make the softmax's output float32
            scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=D**-0.5)  # (H, L, L)
            y = F.dropout(scores.softmax(-1), dropout, training=dropout > 0) @ value  # (H, L, D)
        attended.append(y.transpose(0, 1))  # (L, H, D)
    return torch.cat(attended)


def document_lengths(document_ids: Tensor) -> list[int]:
    """Count the tokens of each document of packed rows (B, T), row after row; padding counts as a document."""
    rows = torch.arange(len(document_ids))[:, None]  # (B, 1)
    unique = document_ids + rows * (int(document_ids.max()) + 2)  # (B, T): no id occurs in two rows
    return torch.unique_consecutive(unique.flatten(), return_counts=True)[1].tolist()


def _empty_embedding(rows: int, width: int) -> nn.Embedding:
    # `nn.Embedding(rows, width)` would draw random numbers, which `_init_weights` draws again.
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)
