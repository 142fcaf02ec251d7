"""The Triton kernel of quantized_linear.py: y = x times the transposed weights, which are converted in registers."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_ROWS = 16  # the least that the matrix units multiply
BLOCK_OUTPUTS = 32
BLOCK_INPUTS = 64


@triton.jit
def _kernel(
    x_ptr: Any,
    levels_ptr: Any,
    scale_ptr: Any,
    bias_ptr: Any,
    y_ptr: Any,
    rows: Any,
    inputs: Any,
    outputs: Any,
    level_stride: Any,
    scale_stride: Any,
    IS_INT4: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
) -> None:
    out = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)  # (OUTPUTS,)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)  # (ROWS,)
    is_out, is_row = out < outputs, row < rows
    total = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for start in range(0, inputs, INPUTS):
        if IS_INT4:
            half: tl.constexpr = INPUTS // 2
            within = tl.arange(0, half)
            packed = tl.load(
                levels_ptr + out[None, :] * level_stride + (start // 2 + within)[:, None], is_out[None, :], 0
            )  # (half, OUTPUTS)
            for part in tl.static_range(2):  # pyright: ignore[reportGeneralTypeIssues]  # unrolled
                column = start + part * half + within
                x = tl.load(
                    x_ptr + row[:, None] * inputs + column[None, :], is_row[:, None] & (column < inputs)[None, :], 0.0
                )  # (ROWS, half)
                scale = tl.load(scale_ptr + out * scale_stride + start // half + part, is_out, 0.0)  # (OUTPUTS,)
                level = ((packed >> (4 * part)) & 15).to(tl.float32) - 8.0
                total += tl.dot(x, (level * scale.to(tl.float32)[None, :]).to(x.dtype))
        else:
            column = start + tl.arange(0, INPUTS)
            is_column = column < inputs
            x = tl.load(x_ptr + row[:, None] * inputs + column[None, :], is_row[:, None] & is_column[None, :], 0.0)
            level = tl.load(
                levels_ptr + out[None, :] * level_stride + column[:, None], is_out[None, :] & is_column[:, None], 0
            )  # (INPUTS, OUTPUTS)
            total += tl.dot(x, level.to(tl.float32).to(x.dtype))
    if not IS_INT4:
        total *= tl.load(scale_ptr + out, is_out, 0.0)[None, :]
    if HAS_BIAS:
        total += tl.load(bias_ptr + out, is_out, 0.0).to(tl.float32)[None, :]
    target = y_ptr + row[:, None] * outputs + out[None, :]
    tl.store(target, total.to(y_ptr.dtype.element_ty), is_row[:, None] & is_out[None, :])


def launch(x: Tensor, levels: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """(rows, inputs) contiguous, levels and scales as in QuantizedMatrix -> (rows, outputs) in the type of `x`."""
    rows, inputs = x.shape
    outputs = len(levels)
    y = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(outputs, BLOCK_OUTPUTS), triton.cdiv(rows, BLOCK_ROWS))
    kernel: Any = _kernel
    with torch.cuda.device_of(x):  # Triton launches on the thread's current GPU
        kernel[grid](
            x,
            levels,
            scale,
            scale if bias is None else bias,
            y,
            rows,
            inputs,
            outputs,
            levels.stride(0),
            scale.stride(0),
            IS_INT4=levels.dtype == torch.uint8,
            HAS_BIAS=bias is not None,
            ROWS=BLOCK_ROWS,
            OUTPUTS=BLOCK_OUTPUTS,
            INPUTS=BLOCK_INPUTS,
        )
    return y
