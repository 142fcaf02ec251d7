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

from resonance.checkpoint import ADAPTER_FOLDER, Checkpoint
from resonance.cpu import cpu_has_bf16
from resonance.engine.kernels import cross_entropy
from resonance.lora_layers import TARGETS
from resonance.model import GPT2, TransformerBlock
from resonance.weights import peft

IGNORE = -100  # the label of unsupervised positions
SEED = 20201126  # of the projections
CHUNK = 512  # positions whose logits exist at once


@dataclass(frozen=True, slots=True)
class Factors:
    """What turns a layer's inputs (..., in) and output gradients (..., out) into a matrix's projected gradient."""

    inputs: Tensor  # (in, k_in)
    outputs: Tensor  # (out, k_out)


class ProjectedGradients:
    """The projected gradients of a checkpoint's adapter, or of its last block's matrices.

    Args:
        model: the model in float32, without an adapter (merged).
        adapter: the adapter that is merged into the model; None: the last block's four matrices.
        side: rows and columns of a projected gradient; None: whole gradients, one after the other.
        bf16: multiply in bfloat16; None: where the CPU does so fast.
    """

    def __init__(
        self,
        model: GPT2,
        adapter: peft.StoredAdapter | None = None,
        *,
        side: int | None = 64,
        bf16: bool | None = None,
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._side = side
        self._dtype = torch.bfloat16 if (cpu_has_bf16() if bf16 is None else bf16) else torch.float32
        rows = -model.config.vocab_size % cross_entropy.LANES
        self._head = F.pad(model.head_weight.detach(), (0, 0, 0, rows)).to(self._dtype)  # (P, C)
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
        counts = torch.bincount(rows, minlength=len(labels))  # (B,)
        with self._watched() as (inputs, outputs):
            hidden = self._hidden_states(input_ids, rows, positions)  # (S, C)
        of_hidden = self._gradient_of_loss(hidden, labels[rows, positions], 1 / counts[rows])  # (S, C)
        gradients = torch.autograd.grad(hidden, outputs, of_hidden)
        projected: list[Tensor] = []
        for (_, factors), x, y in zip(self._factors, inputs, gradients, strict=True):
            for f in factors:
                left = (y.to(self._dtype) @ f.outputs).float()  # (B, T, k_out), of the last block (S, k_out)
                right = (x.to(self._dtype) @ f.inputs).float()  # (B, T, k_in), (S, k_in)
                if left.dim() == 3:
                    products = left.transpose(1, 2) @ right  # (B, k_out, k_in)
                else:
                    each = zip(left.split(counts.tolist()), right.split(counts.tolist()), strict=True)
                    products = torch.stack([y_row.T @ x_row for y_row, x_row in each])
                projected.append(products.flatten(1))  # (B, k_out k_in)
        return torch.stack(projected).sum(0) if self._side is not None else torch.cat(projected, 1)

    def _project(self, matrix: Tensor, generator: torch.Generator) -> Tensor:
        """(n, m) -> (n, side): m columns projected with random signs, or left as they are."""
        if self._side is not None:
            signs = torch.randint(0, 2, (matrix.shape[1], self._side), generator=generator) * 2.0 - 1
            matrix = matrix @ signs / self._side**0.5
        return matrix.to(self._dtype)

    def _hidden_states(self, input_ids: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        """The normalised output of the last block at supervised positions, (S, C) float32.

        The rest of the last block's output depends on nothing that has a gradient, so only its attention sees it.
        """
        model, last = self._model, self._model.blocks[-1]
        assert isinstance(last, TransformerBlock)
        number, length = len(model.blocks) - 1, input_ids.shape[1]
        with torch.autocast("cpu", torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            x = model.token_embedding(input_ids) + model.position_embedding.weight[:length]  # (B, T, C)
            for layer, block in enumerate(model.blocks[:-1]):
                x = block(self._graph_begins(x, layer), None, None, layer)  # (B, T, C)
            x = self._graph_begins(x, number)
            y = last.attention.attend(last.attention.qkv(last.norm1(x)), None, None, number, None)  # (B, T, C)
            x = x[rows, positions] + last.attention.proj(y[rows, positions])  # (S, C)
            return model.norm(x + last.feed_forward(last.norm2(x))).float()

    def _graph_begins(self, x: Tensor, layer: int) -> Tensor:
        """What goes into a block; at the first one with a gradient, as the begin of the graph."""
        return x.detach().requires_grad_() if layer == self._first else x

    def _gradient_of_loss(self, hidden: Tensor, targets: Tensor, scales: Tensor) -> Tensor:
        """The gradient of the cross-entropy's sum, each position's times its scale, (S, C) float32."""
        made: list[Tensor] = []
        vocab_size, fused = self._model.config.vocab_size, cross_entropy.kernel() is not None
        parts = zip(hidden.detach().split(CHUNK), targets.split(CHUNK), scales.split(CHUNK), strict=True)
        for hidden_part, target, scale in parts:
            logits = hidden_part.to(self._dtype) @ self._head.T  # (n, P)
            if fused:
                cross_entropy.cross_entropy_(logits, vocab_size, target, scales=scale)
            else:
                logits[:, vocab_size:] = -torch.inf
                probabilities = logits.softmax(-1, dtype=torch.float32)
                probabilities[torch.arange(len(target)), target] -= 1
                logits = (probabilities * scale[:, None]).to(self._dtype)
            made.append((logits @ self._head).float())
        return torch.cat(made)

    @contextmanager
    def _watched(self) -> Generator[tuple[list[Tensor], list[Tensor]]]:
        """Collect the inputs and outputs of the layers."""
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []

        def collect(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            inputs.append(given[0].detach())
            outputs.append(made)

        hooks = [layer.register_forward_hook(collect) for layer, _ in self._factors]
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
