"""NEFTune: uniform noise on the embeddings of tokens during training (Jain et al. 2023, "NEFTune")."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from resonance.model import GPT2


@contextmanager
def noisy_embeddings(model: GPT2, document_ids: Tensor, alpha: float) -> Generator[None]:
    """Add noise to the token embeddings inside the block: uniform in +-alpha / sqrt(L C), drawn by torch's generator.

    L is the number of tokens of the token's document, C the model's width; `document_ids` (B, T), -1 on padding.
    """
    if not alpha:
        yield
        return
    limits = alpha / (_document_sizes(document_ids) * model.config.n_embd).sqrt()  # (B, T)

    def add_noise(_module: object, _inputs: object, embedded: Tensor) -> Tensor:
        noise = torch.rand(embedded.shape, device=embedded.device) * 2 - 1  # (B, T, C)
        return embedded + (noise * limits[..., None]).to(embedded.dtype)

    handle = model.token_embedding.register_forward_hook(add_noise)
    try:
        yield
    finally:
        handle.remove()


def _document_sizes(document_ids: Tensor) -> Tensor:
    """The number of tokens of each token's document in its row, (B, T) int64."""
    rows = torch.arange(len(document_ids), device=document_ids.device)[:, None].expand_as(document_ids)
    keys = torch.stack([rows.flatten(), document_ids.flatten()])
    _, group, sizes = torch.unique(keys, dim=1, return_inverse=True, return_counts=True)
    return sizes[group].view_as(document_ids)
