"""The training objective: cross-entropy over supervised tokens, with the output head applied in chunks.

The head is the largest matrix product of a GPT-2 (and most of a small model's compute), so it runs on supervised
positions only. The logits of all positions never exist at once: the gradient of a chunk is computed with its logits.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.kernels import cross_entropy, training
from train.sampled_softmax import Candidates

IGNORE = -100  # the label of unsupervised positions
CHUNK = 1024  # positions whose logits exist at once: 100 MB of bfloat16 with GPT-2's vocabulary
MOST_OF_GPU = 1 / 32  # of its memory, for the logits, their float32 probabilities and the gradient
MOST_POSITIONS = 8192  # more make products no faster
BYTES = 10  # of each logit: bfloat16, and float32 before and after the softmax
MULTIPLE = 64  # of the rows of the head's matrix in products
SHAPES = 32  # on a CPU, products are of a multiple of so many positions


def labels_of_all_tokens(input_ids: Tensor, labels: Tensor, document_ids: Tensor) -> Tensor:
    """Labels of every token that another one precedes in its document, questions included; (B, T) int64 each."""
    following = torch.full_like(labels, IGNORE)
    same = (document_ids[:, 1:] == document_ids[:, :-1]) & (document_ids[:, 1:] >= 0)
    following[:, :-1] = torch.where(same, input_ids[:, 1:], IGNORE)
    return torch.where(labels == IGNORE, following, labels)  # a document's last label has no input


def position_weights(labels: Tensor, document_ids: Tensor, *, of: str) -> tuple[Tensor, int]:
    """Weights of positions, with which each example, or each of its assistant's turns (`turn`), weighs the same.

    `labels` and `document_ids` (B, T) int64. Returns (B, T) float32 weights, which sum to 1 over the supervised
    positions of an example or turn, and the number of these.
    """
    supervised = labels != IGNORE
    rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
    groups = [rows[supervised], document_ids[supervised]]  # (n,) each
    if of == "turn":
        previous = F.pad(supervised[:, :-1], (1, 0)) & (document_ids == document_ids.roll(1, 1))
        groups.append((supervised & ~previous).cumsum(1)[supervised])  # the number of the turn in its row
    _, group, sizes = torch.unique(torch.stack(groups), dim=1, return_inverse=True, return_counts=True)
    weights = torch.zeros(labels.shape, device=labels.device)
    weights[supervised] = 1 / sizes[group]
    return weights, len(sizes)


def supervised_loss(
    hidden: Tensor,
    head_weight: Tensor,
    labels: Tensor,
    candidates: Candidates | None = None,
    *,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    new_rows: Tensor | None = None,
    supervised_at: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, int]:
    """Sum the cross-entropy over supervised positions.

    `hidden` (B, T, C), `head_weight` (V, C), `labels` (B, T) int64 with IGNORE at unsupervised positions. With
    `candidates`, all labels among them, the softmax runs over these only. `weights` (B, T) multiply each position's
    loss. With `label_smoothing`, that share of the target's probability is spread evenly over all tokens.
    `new_rows` (n, C) are the head's rows of the tokens from V on, which have a gradient of their own: with an adapter
    only they train, and the gradient of the other rows, as much work as the logits, is not computed.
    `supervised_at` (n,) int64 says where in the flattened labels the supervised ones are; without it a GPU is waited
    for. `chunk` positions have logits at once, or `chunk_size` of the device.
    Returns the sum (a scalar, float32) and the number of supervised positions; divide for the mean.
    """
    if supervised_at is None:
        supervised_at = (labels.flatten() != IGNORE).nonzero()[:, 0]
    count = len(supervised_at)
    supervised_at = rounded_up(supervised_at)  # (n,)
    targets = labels.flatten()[supervised_at]  # (n,)
    log_weights = None
    if candidates is not None:
        ids, is_new = candidates.token_ids, candidates.token_ids >= len(head_weight)  # (K,) each
        order = is_new.int().argsort(stable=True)  # (K,): new tokens last, as in the vocabulary
        ids, log_weights = ids[order], candidates.log_weights[order]
        targets = order.argsort()[candidates.indices[targets]]
        known = len(ids) - (int(is_new.sum()) if candidates.new is None else candidates.new)
        new_rows = None if new_rows is None else new_rows[ids[known:] - len(head_weight)]
        head_weight = head_weight[ids[:known]]  # (K - new, C)
    scale = None if weights is None else weights.flatten()[supervised_at]  # (n,)
    if count < len(targets):
        scale = torch.ones(len(targets)) if scale is None else scale
        scale[count:] = 0
    chunk = chunk or chunk_size(hidden.device, len(head_weight))
    total = _ChunkedCrossEntropy.apply(
        hidden.flatten(0, -2)[supervised_at], head_weight, new_rows, targets, log_weights, scale, label_smoothing, chunk
    )
    assert isinstance(total, Tensor)
    return total, count


def rounded_up(positions: Tensor) -> Tensor:
    """Repeat the first position up to a multiple of SHAPES; (n,) int64. On a CPU alone, and nothing if there is none.

    oneDNN keeps what it compiles for each shape of a product, so that with ever other numbers of positions the memory
    of a long run would grow.
    """
    missing = -len(positions) % SHAPES
    return torch.cat([positions, positions[:1].expand(missing)]) if positions.is_cpu and len(positions) else positions


def chunk_size(device: torch.device, vocab_size: int) -> int:
    """How many positions have logits at once: CHUNK, or on a CUDA GPU by its memory, in powers of two."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return CHUNK
    return chunk_for(torch.cuda.get_device_properties(device).total_memory, vocab_size)


def chunk_for(memory: int, vocab_size: int) -> int:
    """A power of two of positions, 256 to MOST_POSITIONS, whose logits take at most MOST_OF_GPU of `memory` bytes."""
    positions = int(memory * MOST_OF_GPU) // (vocab_size * BYTES)
    return min(MOST_POSITIONS, max(256, 1 << max(0, positions.bit_length() - 1)))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(target); the forward pass computes both gradients, the backward pass scales them."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        new_rows: Tensor | None,
        targets: Tensor,
        log_weights: Tensor | None,
        scale: Tensor | None,
        smoothing: float,
        chunk: int,
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        needs_grad = any(ctx.needs_input_grad[:3])
        head_needs_grad = ctx.needs_input_grad[1]
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_grad = torch.empty_like(hidden)
        weight_grad: Tensor | None = None  # (P, C)
        known = len(weight)
        size = known if new_rows is None else known + len(new_rows)
        new_grad = None if new_rows is None else torch.zeros_like(new_rows)
        with torch.autocast(device, enabled=False):
            matrix = _padded(weight, new_rows, dtype)  # (P, C)
            if log_weights is not None:
                log_weights = F.pad(log_weights, (0, len(matrix) - len(log_weights)))  # (P,)
            buffer = _logits_buffer(matrix, min(chunk, len(targets)))
            for start in range(0, len(targets), chunk):
                grad = part = None  # frees those of the chunk before
                rows = hidden[start : start + chunk].to(dtype)
                logits = torch.mm(rows, matrix.T, out=buffer[: len(rows)])  # (n, P)
                losses, grad = _losses_and_gradient(
                    logits,
                    size,
                    targets[start : start + chunk],
                    log_weights,
                    None if scale is None else scale[start : start + chunk],
                    smoothing,
                    needs_grad,
                )
                total += losses.sum()
                if grad is None:
                    continue
                hidden_grad[start : start + chunk] = grad @ matrix
                if new_grad is not None:
                    new_grad += grad[:, known:size].T @ rows
                if not head_needs_grad:  # frozen beneath an adapter
                    continue
                if weight.dtype == torch.float32 and training.can_multiply(grad, rows):
                    weight_grad, _ = training.weight_gradient(grad, rows, add_to=weight_grad)
                    continue
                part = grad.T @ rows  # (P, C)
                weight_grad = part.to(weight.dtype) if weight_grad is None else weight_grad.add_(part)
        if weight_grad is not None:
            weight_grad.resize_(weight.shape)  # without the padding; a slice would make autograd copy it
        elif head_needs_grad:  # no supervised position
            weight_grad = torch.zeros_like(weight)
        if needs_grad:
            ctx.save_for_backward(hidden_grad, weight_grad, new_grad)
        return total

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        # In place, since the head's gradient is as large as the head; a second backward pass raises an error for it.
        gradients = [None if gradient is None else gradient.mul_(grad) for gradient in ctx.saved_tensors]
        return *gradients, None, None, None, None, None


_buffers: dict[torch.dtype, Tensor] = {}


def _logits_buffer(matrix: Tensor, rows: int) -> Tensor:
    """Memory for the logits of `rows` positions by a matrix (P, C): (rows, P). On a CPU the same in all steps.

    Freed after each step, memory of this size would soon have smaller tensors in it, and be asked for anew.
    """
    size = rows * len(matrix)
    if not matrix.is_cpu:
        return matrix.new_empty(rows, len(matrix))
    if matrix.dtype not in _buffers or _buffers[matrix.dtype].numel() < size:
        _buffers[matrix.dtype] = matrix.new_empty(size)
    return _buffers[matrix.dtype][:size].view(rows, len(matrix))


def _padded(weight: Tensor, new_rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Copy the head's matrix (V, C), and new rows below it, to a dtype, with rows of 0 up to a multiple of 64.

    Matrix products are faster with that many rows.
    """
    size = len(weight) if new_rows is None else len(weight) + len(new_rows)
    padded = weight.new_empty(-(-size // MULTIPLE) * MULTIPLE, weight.shape[1], dtype=dtype)
    padded[: len(weight)] = weight
    if new_rows is not None:
        padded[len(weight) : size] = new_rows
    padded[size:] = 0
    return padded


def _losses_and_gradient(
    logits: Tensor,
    vocab_size: int,
    targets: Tensor,
    log_weights: Tensor | None,
    scale: Tensor | None,
    smoothing: float,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """The losses (n,) float32 of logits (n, P), and the gradient (n, P) of their sum; overwrites the logits.

    Columns from `vocab_size` on are padding. The C++ kernel computes the same as the lines below, in one pass.
    """
    if logits.is_cpu and logits.dtype in cross_entropy.DTYPES and cross_entropy.kernel() is not None:
        losses = cross_entropy.cross_entropy_(
            logits,
            vocab_size,
            targets,
            log_weights=log_weights,
            scales=scale,
            smoothing=smoothing,
            gradient=needs_grad,
        )
        return losses, logits if needs_grad else None
    target, known = targets[:, None], slice(vocab_size)
    logits[:, vocab_size:] = -math.inf
    log_probs = F.log_softmax(logits if log_weights is None else logits + log_weights, -1, dtype=torch.float32)
    target_log_probs = log_probs.gather(1, target)  # (n, 1)
    if smoothing:
        mean = log_probs[:, known].mean(1, keepdim=True)
        target_log_probs = (1 - smoothing) * target_log_probs + smoothing * mean
    if scale is not None:
        target_log_probs = target_log_probs * scale[:, None]
    if not needs_grad:
        return -target_log_probs[:, 0], None
    grad = log_probs.exp_()  # d loss / d logits = p - 1 at the target, p elsewhere
    grad.scatter_add_(1, target, torch.full_like(target, smoothing - 1, dtype=torch.float32))
    if smoothing:
        grad[:, known] -= smoothing / vocab_size
    if scale is not None:
        grad *= scale[:, None]
    return -target_log_probs[:, 0], grad.to(logits.dtype)
