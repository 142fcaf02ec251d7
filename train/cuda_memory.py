"""Estimates the memory of training on a CUDA GPU, by formula: no step is made, and nothing is on the GPU.

`tests/fake_cuda/check_memory.py` holds the formulas against the tensors of whole steps, counted on a fake device.
"""

from collections.abc import Callable

from torch import nn

from resonance import lora
from resonance.model import GPT2
from train.losses import MULTIPLE
from train.memory_estimate import FULL, HALF, Activations

CUDA_CONTEXT = 600e6  # bytes that CUDA, cuBLAS and torch's allocator take besides tensors; an estimate


def cuda_activations(model: GPT2, *, half: bool, checkpointing: bool, masked: int = 0) -> Activations:
    """What autograd keeps with fused attention, in `half` precision or in float32.

    After Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models": for each token a
    block of width C keeps the float32 inputs of two LayerNorms, 2 C, and in the precision of products 14 C numbers: the
    inputs of four matrices (7 C), query, key and value (3 C) and the input of GELU (4 C). The attention's output is
    the input of a matrix. Attention keeps a float32 number for each head, dropout a byte for each number. Mixed
    precision keeps the copies of the float32 matrices, too. Where attention needs a mask, rows of `masked` tokens keep
    it in float32. With checkpointing a block keeps its float32 input, and one block at a time the rest.
    """
    config, width, size = model.config, model.config.n_embd, HALF if half else FULL
    adapted = [module for module in model.modules() if isinstance(module, lora.LowRankLinear)]
    dropped = sum(module.frozen.in_features for module in adapted if module.config.dropout) / config.n_layer
    block = 2 * FULL * width + 14 * size * width + FULL * config.n_head + FULL * masked
    block += (2 * width if config.dropout else 0) + dropped + (size * width if dropped else 0)
    block += sum(size * module.config.rank for module in adapted) / config.n_layer
    copies = _copied(model) / config.n_layer if half else 0
    head = FULL * width * config.vocab_size if model.head_weight.requires_grad else 0
    last = 2 * FULL * width + (width if config.dropout else 0)  # the last LayerNorm's input, and a gradient
    if checkpointing:
        return Activations(copies + head, config.n_layer * FULL * width + block + last)
    return Activations(config.n_layer * copies + head, config.n_layer * block + last)


def cuda_loss_bytes(
    model: GPT2, *, half: bool, supervised: float, head_size: int, chunk: int
) -> Callable[[int], float]:
    """The buffers of the head's loss, as a function of a micro-batch's tokens, a share `supervised` of which counts.

    There are a copy of the head's matrix, the last hidden states, and of one chunk of positions logits, their float32
    copy, which float32 does without, and their probabilities; then logits, gradient and the matrix's gradient.
    """
    width, size, rows = model.config.n_embd, HALF if half else FULL, -(-head_size // MULTIPLE) * MULTIPLE
    part = rows * width * size if model.head_weight.requires_grad else 0

    def of(tokens: int) -> float:
        positions = min(chunk, max(1.0, tokens * supervised))
        softmax = rows * positions * (size + (2 * FULL if half else FULL))
        gradient = rows * positions * 2 * size + part
        return rows * width * size + max(softmax, gradient) + FULL * width * tokens * (1 + supervised)

    return of


def backward_bytes(model: GPT2) -> float:
    """What the end of the backward pass needs beside the gradients: those of the embedding and of a tied head apart."""
    return 2 * model.token_embedding.weight.nbytes if model.head_weight.requires_grad else 0


def _copied(model: GPT2) -> int:
    """The bytes of the half-precision copies of the matrices of all blocks, which frozen ones in few bits have not."""
    matrices = [m.weight.numel() for m in model.blocks.modules() if isinstance(m, nn.Linear)]
    matrices += [p.numel() for name, p in model.blocks.named_parameters() if ".lora_" in name and p.dim() == 2]
    return HALF * sum(matrices)
