"""Attention of packed rows on a CUDA GPU by variable-length FlashAttention: document by document, without a mask.

Dao 2023, "FlashAttention-2". torch's public `varlen_attn` has no dropout; with dropout the operator that it calls is
called itself, which has.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from resonance.engine.cuda_graph_runner import ENDLESS, NONE_AFTER, has_flash_attention
from resonance.model import GPT2, Documents, TransformerBlock

_DTYPES = {"bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16, "16-mixed": torch.float16}


def use_flash_attention(model: GPT2, device: torch.device, precision: str) -> bool:
    """Let the model compute the attention of `documents` by FlashAttention; False, and no change, where it cannot."""
    if why_not_flash(model, device, precision) is not None:
        return False
    for block in model.blocks:
        assert isinstance(block, TransformerBlock)
        block.attention.attend_documents = attend_documents_by_flash
    return True


def why_not_flash(model: GPT2, device: torch.device, precision: str) -> str | None:
    """Why variable-length FlashAttention cannot compute the model's attention on a device; None: it can."""
    head_dim = model.config.n_embd // model.config.n_head
    if precision not in _DTYPES:
        return f"FlashAttention computes in bf16 and fp16, not in {precision}"
    if has_flash_attention(device, _DTYPES[precision], head_dim):
        return None
    if head_dim % 8 or head_dim > 256:
        return f"FlashAttention's heads are multiples of 8 up to 256 wide, not {head_dim}"
    return "variable-length FlashAttention needs an NVIDIA GPU of Ampere or later"


def attend_documents_by_flash(qkv: Tensor, documents: Documents, dropout: float) -> Tensor:
    """Attend inside each document: (N, 3, H, D) in bf16 or fp16 -> (N, H, D)."""
    query, key, value = qkv.unbind(1)  # (N, H, D) each
    starts, longest = documents.starts, documents.longest
    if not dropout:
        y = varlen_attn(query, key, value, starts, starts, longest, longest, window_size=(ENDLESS, NONE_AFTER))
        assert isinstance(y, Tensor)
        return y
    forward: Callable[..., Any] = torch.ops.aten._flash_attention_forward
    is_causal, return_debug_mask = True, False
    return forward(query, key, value, starts, starts, longest, longest, dropout, is_causal, return_debug_mask)[0]
