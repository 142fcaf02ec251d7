"""The fastest loops known here for reading memory and multiplying matrices: our kernels', oneDNN's, MKL's, OpenBLAS's.

A ceiling has to be the machine's. A single library's figure is none: on AMD, MKL multiplies at half the speed of the
engine's own kernels.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from resonance.engine.kernels.bindings import PRECISIONS
from resonance.engine.kernels.build import KernelsUnavailable, interface, library
from resonance.engine.kernels.packing import PANEL
from resonance.engine.quantization import Precision

Loop = Callable[[], object]
MATMULS = ((1024, 1024, 3072), (512, 768, 3072), (1024, 2048, 2048))  # rows, inputs, outputs
WIDTH = 1024  # inputs of the matrix whose products read memory
NBYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "int8": 1}  # of a weight
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def reads(block: Tensor, threads: int) -> Iterator[Loop]:
    """Loops that read all of `block`, fp32 in one dimension: torch's sum, our own, and a packed matrix's product."""
    yield block.sum
    with suppress(KernelsUnavailable):
        address = interface().cast("uint8_t *", block.data_ptr())
        yield partial(library().resonance_read, address, block.nbytes, threads)
        for precision, nbytes in NBYTES.items():
            outputs = block.nbytes // (nbytes * WIDTH * PANEL) * PANEL
            yield PackedProduct(precision, block, 1, WIDTH, outputs, threads)


def products(precision: Precision, rows: int, inputs: int, outputs: int, threads: int) -> Iterator[Loop]:
    """Loops that multiply (rows, inputs) by (inputs, outputs) in fp32, bf16 or int8."""
    if precision == "int8":
        # torch has no public product of int8 matrices.
        a, b = (torch.randint(-127, 127, shape, dtype=torch.int8) for shape in ((rows, inputs), (outputs, inputs)))
        yield lambda: torch._int_mm(a, b.t())  # pyright: ignore[reportPrivateUsage]
        contiguous = b.t().contiguous()
        yield lambda: torch._int_mm(a, contiguous)  # pyright: ignore[reportPrivateUsage]
    else:
        x, weight = (torch.randn(shape).to(DTYPES[precision]) for shape in ((rows, inputs), (outputs, inputs)))
        yield lambda: torch.nn.functional.linear(x, weight)
        contiguous = weight.t().contiguous()
        yield lambda: x @ contiguous
        with suppress(AttributeError, RuntimeError):  # oneDNN's packed weights, which torch offers to Inductor only
            ops: Any = torch.ops.mkldnn
            packed = ops._reorder_linear_weight(weight, rows)
            yield lambda: ops._linear_pointwise(x, packed, None, "none", [], "")
    with suppress(KernelsUnavailable):
        memory = torch.ones(inputs * outputs)  # enough in every precision
        yield PackedProduct(precision, memory, rows, inputs, outputs, threads)


class PackedProduct:
    """The engine's product of `rows` inputs with a packed matrix, whose contents are whatever `memory` holds.

    `inputs` and `outputs` are multiples of 64. Raises KernelsUnavailable.
    """

    def __init__(
        self, precision: Precision, memory: Tensor, rows: int, inputs: int, outputs: int, threads: int
    ) -> None:
        self._library, ffi = library(), interface()
        self.hidden, self.logits = torch.randn(rows, inputs), torch.empty(rows, outputs)
        self._memory, self._scales = memory, torch.ones(outputs)
        float_p = partial(ffi.cast, "float *")
        head = {"data": ffi.cast("uint8_t *", memory.data_ptr()), "scale": float_p(self._scales.data_ptr())}
        weights = {
            "token_embedding": head,
            "head": head,
            "n_layer": 0,
            "n_head": inputs // 64,
            "n_embd": inputs,
            "context_length": 1,
            "padded_vocab_size": outputs,
            "precision": PRECISIONS[precision],
        }
        self._model = self._library.resonance_create_model(ffi.new("ModelWeights *", weights))
        call = float_p(self.hidden.data_ptr()), float_p(self.logits.data_ptr()), rows, threads
        self._call = ffi.new("LogitsCall *", call)

    def __call__(self) -> None:
        """Multiply once."""
        self._library.resonance_logits(self._model, self._call)

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self._library.resonance_free_model(self._model)
