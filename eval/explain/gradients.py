"""Gradients of single examples over some of a model's matrices, projected to a small dimension.

The gradient of a matrix W (out, in) in y = W x is the sum over tokens of dL/dy x^T, so that an example's gradient is
made of the layer's inputs and of the gradients of its outputs, which one backward pass gives for all examples of a
batch. Both are projected before they are multiplied: sum_t (P dL/dy_t) (Q x_t)^T is a random projection of the whole
gradient that never has to be made. The matrices' projections are independent of each other and added up. Dot products
of projected gradients estimate those of whole gradients without bias.

Sources: Pruthi et al. 2020, "Estimating Training Data Influence by Tracing Gradient Descent" (TracIn); Park et al.
2023, "TRAK"; Choe et al. 2024, "What is Your Data Worth to GPT?" (the projection of inputs and output gradients).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.tokenize import IGNORE
from resonance.checkpoint import ADAPTER_FOLDER, Checkpoint
from resonance.lora_layers import TARGETS
from resonance.model import GPT2
from resonance.weights import peft

SEED = 20201126  # of the projections


@dataclass(frozen=True, slots=True)
class Factors:
    """What turns a layer's inputs (..., in) and output gradients (..., out) into a matrix's projected gradient."""

    inputs: Tensor  # (in, k_in)
    outputs: Tensor  # (out, k_out)


class ProjectedGradients:
    """The projected gradients of a checkpoint's adapter, or of its last block's matrices.

    Args:
        model: the model, without an adapter (merged).
        adapter: the adapter that is merged into the model; None: the last block's four matrices.
        side: rows and columns of a projected gradient; None: whole gradients, one after the other.
    """

    def __init__(self, model: GPT2, adapter: peft.StoredAdapter | None = None, *, side: int | None = 64) -> None:
        self._model = model.eval().requires_grad_(False)
        self._side = side
        self._factors: list[tuple[nn.Linear, list[Factors]]] = []
        self._first = 0 if adapter is not None else len(model.blocks) - 1
        generator = torch.Generator().manual_seed(SEED)
        for number in range(self._first, len(model.blocks)):
            for target in TARGETS:
                layer = model.get_submodule(f"blocks.{number}.{target}")
                assert isinstance(layer, nn.Linear)
                if adapter is None:
                    parts = [(torch.eye(layer.in_features), torch.eye(layer.out_features))]
                elif f"blocks.{number}.{target}.lora_a" in adapter.tensors:
                    a = adapter.tensors[f"blocks.{number}.{target}.lora_a"].float()  # (rank, in)
                    b = adapter.tensors[f"blocks.{number}.{target}.lora_b"].float()  # (out, rank)
                    # dL/dB = s dL/dW A^T and dL/dA = s B^T dL/dW; s is the same for all, and drops out of a cosine.
                    parts = [(a.T, torch.eye(layer.out_features)), (torch.eye(layer.in_features), b)]
                else:
                    continue
                factors = [Factors(self._project(x, generator), self._project(y, generator)) for x, y in parts]
                self._factors.append((layer, factors))

    @property
    def dimension(self) -> int:
        """The length of a projected gradient."""
        if self._side is not None:
            return self._side**2
        return sum(f.inputs.shape[1] * f.outputs.shape[1] for _, factors in self._factors for f in factors)

    def __call__(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        """The gradients of each row's mean loss: (B, T) int64 input ids and labels -> (B, dimension) float32.

        Rows are padded at their end with any token, whose label is IGNORE, as everything that is not supervised.
        """
        rows, positions = (labels != IGNORE).nonzero(as_tuple=True)  # (S,) each
        counts = torch.bincount(rows, minlength=len(labels)).clamp_min(1)  # (B,)
        with self._watched() as (inputs, outputs):
            hidden = self._model(input_ids, return_hidden_states=True)  # (B, T, C)
            logits = self._model.logits(hidden[rows, positions])  # (S, V)
            losses = F.cross_entropy(logits.float(), labels[rows, positions], reduction="none")  # (S,)
            gradients = torch.autograd.grad((losses / counts[rows]).sum(), outputs)
        projected: list[Tensor] = []
        for (_, factors), x, y in zip(self._factors, inputs, gradients, strict=True):
            for f in factors:
                left, right = y.float() @ f.outputs, x.float() @ f.inputs  # (B, T, k_out), (B, T, k_in)
                projected.append((left.transpose(1, 2) @ right).flatten(1))  # (B, k_out k_in)
        return torch.stack(projected).sum(0) if self._side is not None else torch.cat(projected, 1)

    def _project(self, matrix: Tensor, generator: torch.Generator) -> Tensor:
        """(n, m) -> (n, side): m columns projected with random signs, or left as they are."""
        if self._side is None:
            return matrix
        signs = torch.randint(0, 2, (matrix.shape[1], self._side), generator=generator) * 2.0 - 1
        return matrix @ signs / self._side**0.5

    @contextmanager
    def _watched(self) -> Generator[tuple[list[Tensor], list[Tensor]]]:
        """Collect the inputs and outputs of the layers; the graph begins at the first block that has one."""
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []

        def begin(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (given[0].detach().requires_grad_(), *given[1:])

        def collect(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            inputs.append(given[0].detach())
            outputs.append(made)

        hooks = [self._model.blocks[self._first].register_forward_pre_hook(begin)]
        hooks += [layer.register_forward_hook(collect) for layer, _ in self._factors]
        try:
            with torch.enable_grad():
                yield inputs, outputs
        finally:
            for hook in hooks:
                hook.remove()


def adapter_of(checkpoint: Checkpoint) -> peft.StoredAdapter | None:
    """The adapter that a run trained; None without one, or where it is a DoRA, whose gradients have another form."""
    folder: Path = checkpoint.folder / ADAPTER_FOLDER
    if checkpoint.metadata.adapter is None or not folder.is_dir():
        return None
    adapter = peft.read(folder)
    return None if adapter.dora else adapter


def padded(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Input ids and labels of several examples as (B, T) int64 tensors."""
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    labels = torch.full((len(rows), longest), IGNORE)
    for number, (ids, targets) in enumerate(rows):
        input_ids[number, : len(ids)] = torch.tensor(ids)
        labels[number, : len(ids)] = torch.tensor(targets)
    return input_ids, labels
