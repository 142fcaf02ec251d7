"""Weights that stay in int8 and int4 on a GPU: the layers on the CPU, and the Triton kernel in Triton's interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Literal

import pytest
import torch

from resonance.engine.quantization import dequantize, fake_quantize, quantize_int4, quantize_int8
from resonance.engine.quantized_linear import QuantizedLinear, QuantizedMatrix, quantized
from resonance.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=203, context_length=40, n_layer=2, n_head=2, n_embd=96)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("inputs", [64, 96, 320])
def test_a_quantized_layer_multiplies_by_the_weights_that_its_levels_represent(
    bits: Literal[8, 4], inputs: int
) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(50, inputs), torch.randn(50), torch.randn(3, 7, inputs)
    quantize = quantize_int8 if bits == 8 else quantize_int4
    represented = dequantize(*quantize(torch.nn.functional.pad(weight, (0, -inputs % 32))))[:, :inputs]
    matrix = QuantizedMatrix(weight, bits)
    y = QuantizedLinear(matrix, bias)(x)
    torch.testing.assert_close(y, x @ represented.T + bias, atol=1e-4, rtol=1e-4)
    ids = torch.tensor([[4, 49], [0, 4]])
    torch.testing.assert_close(matrix.rows(ids).float(), represented[ids], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("precision", "least"), [("int8", 1.9), ("int4", 3.2)])
@pytest.mark.parametrize("tied", [True, False])
def test_a_quantized_model_is_the_rounded_one_in_a_fraction_of_its_memory(
    precision: Literal["int8", "int4"], least: float, tied: bool
) -> None:
    torch.manual_seed(0)
    model = GPT2(
        GPT2Config(vocab_size=2003, context_length=40, n_layer=2, n_head=2, n_embd=128, tie_weights=tied)
    ).eval()
    small, rounded = quantized(model, precision), fake_quantize(model, precision)
    ids = torch.randint(2003, (2, 30))
    torch.testing.assert_close(small(ids).float(), rounded(ids).float(), atol=3e-2, rtol=3e-2)
    sizes = [sum(parameter.nbytes for parameter in m.parameters()) for m in (rounded, small)]
    assert sizes[0] / sizes[1] > least


def test_fp32_and_bf16_are_not_quantized() -> None:
    model = GPT2(CONFIG)
    assert quantized(model, "bf16").head_weight.dtype == torch.bfloat16
    assert torch.equal(quantized(model, "fp32").head_weight, model.head_weight)


KERNEL = """
import torch
from resonance.engine.quantized_linear import QuantizedMatrix
from resonance.engine.quantized_linear_kernel import launch
torch.manual_seed(0)
for bits in (8, 4):
    for rows, inputs, outputs in ((1, 64, 32), (5, 320, 70), (33, 96, 33)):
        for dtype in (torch.float32, torch.float16):  # the interpreter multiplies no bf16
            matrix = QuantizedMatrix(torch.randn(outputs, inputs), bits)
            x, bias = torch.randn(rows, inputs).to(dtype), torch.randn(outputs).to(dtype)
            for b in (None, bias):
                y = launch(x, matrix.levels, matrix.scale, b)
                tolerance = 1e-4 if dtype == torch.float32 else 3e-2
                expected = matrix.multiply(x.float(), None if b is None else b.float())
                torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=tolerance)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernel_multiplies_as_torch_does() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # which Triton reads when it is imported
    done = subprocess.run([sys.executable, "-c", KERNEL], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
