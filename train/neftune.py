"""NEFTune: uniform noise on the embeddings of tokens during training (Jain et al. 2023, "NEFTune")."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from resonance.model import GPT2


@contextmanager
def noisy_embeddings(model: GPT2, document_sizes: Tensor | None, alpha: float) -> Generator[None]:
    """Add noise to the token embeddings inside the block: uniform in +-alpha / sqrt(L C), drawn by torch's generator.

    L is the number of tokens of the token's document, `document_sizes` (B, T) int64 (None without noise); C is the
    model's width.
    """
    if not alpha:
        yield
        return
    assert document_sizes is not None
    limits = alpha / (document_sizes * model.config.n_embd).sqrt()  # (B, T)

    def add_noise(_module: object, _inputs: object, embedded: Tensor) -> Tensor:
        noise = torch.rand(embedded.shape, device=embedded.device) * 2 - 1  # (B, T, C)
        return embedded + (noise * limits[..., None]).to(embedded.dtype)

    handle = model.token_embedding.register_forward_hook(add_noise)
    try:
        yield
    finally:
        handle.remove()
