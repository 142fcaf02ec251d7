"""Training on a CPU by the C++ kernels: GELU, attention and layer normalisation; and linear layers with packed weights.

A step of torch's own operators spends a fifth of its time on them: `tanh` element by element, many small products, and
copies between layouts.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resonance.engine.kernels import training as kernels
from resonance.engine.kernels.build import KernelsUnavailable, library
from resonance.model import GPT2, Documents, FeedForward, TransformerBlock, attend_documents
from train.flash_attention import why_not_flash
from train.packed_linear import autocast_to_bfloat16, pack_linears


def use_kernels(model: GPT2) -> None:
    """Let the model compute with the kernels wherever these take the tensors, and with torch elsewhere.

    Names of parameters and of the state stay as they are.
    """
    pack_linears(model)
    for block in model.blocks:
        assert isinstance(block, TransformerBlock)
        for norm in (block.norm1, block.norm2):
            norm.forward = _LayerNorm(norm)  # pyright: ignore[reportAttributeAccessIssue]  # it is a callable
        block.feed_forward.gelu = GELU(approximate="tanh")
        block.attention.attend_documents = attend_documents_with_kernel


def leave_to_compiler(blocks: nn.Module) -> None:
    """Undo `use_kernels` in blocks but for attention: torch.compile cannot see into the kernels, and has its own."""
    for module in blocks.modules():
        if type(module) in (nn.Linear, nn.LayerNorm):
            vars(module).pop("forward", None)
        elif isinstance(module, FeedForward):
            module.gelu = nn.GELU(approximate="tanh")


def describe_attention(model: GPT2, device: torch.device, precision: str) -> str:
    """How training on a device computes the attention of packed rows, in words for the log.

    The kernel was 1.7 to 4 times as fast as torch's operators for documents of 64 to 1,024 tokens, so that nothing is
    measured anew at a start, and a resumed run computes what the first one did.
    """
    if device.type != "cpu":
        if (why_not := why_not_flash(model, device, precision)) is None:
            return "attention: document by document, by variable-length FlashAttention; causal where rows hold one"
        return f"attention: one mask of the documents for each batch, none where rows hold one ({why_not})"
    reason = None
    if model.config.dropout:
        reason = f"the kernel has no dropout and model.dropout is {model.config.dropout:g}"
    elif (head_dim := model.config.n_embd // model.config.n_head) % kernels.LANES:
        reason = f"the kernel's heads are multiples of {kernels.LANES} wide, not {head_dim}"
    elif precision.startswith("64"):
        reason = f"the kernel does not compute in {precision}"
    else:
        try:
            library()
        except KernelsUnavailable as error:
            reason = str(error)
    by = "by the C++ kernel" if reason is None else f"by torch's operators ({reason})"
    return f"attention: document by document, {by}"


class _LayerNorm:
    """A layer normalisation before a linear layer, which under autocast to bfloat16 would cast its output at once."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        norm = self._norm
        floats = all(tensor.dtype == torch.float32 for tensor in (x, norm.weight, norm.bias))
        if not (autocast_to_bfloat16() and floats and kernels.can_compute(x)):
            return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        y = _Normalisation.apply(x, norm.weight, norm.bias, norm.eps)
        assert isinstance(y, Tensor)
        return y


class GELU(nn.GELU):
    """GELU in its tanh form."""

    def forward(self, input: Tensor) -> Tensor:  # the name is torch's
        if not kernels.can_compute(input):
            return super().forward(input)
        y = _GELU.apply(input)
        assert isinstance(y, Tensor)
        return y


def attend_documents_with_kernel(qkv: Tensor, documents: Documents, dropout: float) -> Tensor:
    """`resonance.model.attend_documents`; with dropout, torch computes it."""
    if dropout or not kernels.can_compute(qkv):
        return attend_documents(qkv, documents, dropout)
    y = _DocumentAttention.apply(qkv, documents)
    assert isinstance(y, Tensor)
    return y


class _Normalisation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        y, means, scales = kernels.layer_norm(x, weight, bias, epsilon)
        ctx.save_for_backward(x, weight, means, scales)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        x, weight, means, scales = ctx.saved_tensors
        return *kernels.layer_norm_gradient(x, weight, means, scales, grad), None


class _GELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch types it as (*args, **kwargs)
        ctx.save_for_backward(inputs)
        return kernels.gelu(inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        (inputs,) = ctx.saved_tensors
        return kernels.gelu(inputs, grad)


class _DocumentAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, documents: Documents) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        qkv = qkv.contiguous()
        out, log_sums = kernels.document_attention(qkv, documents.lengths)
        ctx.save_for_backward(qkv, out, log_sums)
        ctx.lengths = documents.lengths
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        qkv, out, log_sums = ctx.saved_tensors
        return kernels.document_attention_gradient(qkv, ctx.lengths, out, log_sums, grad), None
