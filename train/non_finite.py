"""Detects non-finite losses, gradients and weights, and stops the run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from data.example import SHOWN_ROWS, Example
from data.module import SFTDataModule
from resonance.errors import ResonanceError


class NonFiniteError(ResonanceError):
    """A loss, a gradient or a weight is infinite or NaN; the step is not taken and not saved.

    `step` is the refused optimiser step, `examples` are its batches' indices into the training split; empty if no batch
    is the cause.
    """

    exit_code = 1

    def __init__(self, message: str, *, step: int, examples: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.step, self.examples = step, examples

    def with_last_state(self, state: Path, saved_step: int) -> "NonFiniteError":
        """The error, with the last saved state in its message."""
        if state.is_file():
            kept = f"The last good state is that of step {saved_step}, in {state}."
        else:
            kept = "No state was saved before."
        kept += " A lower optimizer.lr, a longer scheduler.warmup_steps or trainer.precision=32-true may help."
        return NonFiniteError(f"{self} {kept}", step=self.step, examples=self.examples)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A micro-batch of a step, `loss` its () sum of losses; `document_ids` (B, T) identify its examples."""

    number: int
    loss: Tensor
    document_ids: Tensor


def check_step(
    trainer: Trainer, step: int, loss: float, grad_norm: float, lr: float, batches: Sequence[MicroBatch]
) -> None:
    """Raise NonFiniteError, on all ranks, if the loss or the gradient of `step` is not finite.

    On a GPU the step may have been taken already; then it is not saved.
    """
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    non_finite = [batch for batch in batches if not math.isfinite(float(batch.loss))]
    gathered = _all_gather(trainer, [(batch.number, examples_of(batch)) for batch in non_finite])
    if not gathered:  # only the gradient is not finite; any micro-batch may be the cause
        gathered = _all_gather(trainer, [(batch.number, examples_of(batch)) for batch in batches])
    numbers = sorted({number for number, _ in gathered})
    examples = sorted({i for _, indices in gathered for i in indices})
    source = f"batch {numbers[0]}" if len(numbers) == 1 else f"batches {numbers[0]} to {numbers[-1]}"
    verdict = "taken" if step > trainer.global_step else "kept"
    raise NonFiniteError(
        f"Step {step} is not {verdict}: its loss is {loss:g} and its gradient's norm is {grad_norm:g}, at a learning "
        f"rate of {lr:.2g}. It was made from {source}, with {len(examples):,} examples: "
        f"{_describe_examples(trainer, examples)}.",
        step=step,
        examples=examples,
    )


def check_validation(trainer: Trainer, loss: float) -> None:
    """Raise NonFiniteError if a validation loss is not finite."""
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"The validation loss is {loss:g} after step {trainer.global_step}; the weights are not saved.",
            step=trainer.global_step,
        )


def check_weights(trainer: Trainer, model: nn.Module) -> None:
    """Raise NonFiniteError if a weight is not finite; called on all ranks before weights are written."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    shares = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in parameters]
    finite = torch.stack([torch.isfinite(share).all() for share in shares]).float()
    if trainer.world_size > 1:  # of a share that another rank holds, too
        finite = trainer.strategy.reduce(finite, reduce_op="min")
    broken = [name for name, is_finite in zip(names, finite.tolist(), strict=True) if not is_finite]  # one wait for all
    if broken:
        raise NonFiniteError(
            f"{len(broken)} weights, the first being {broken[0]}, are not finite after step {trainer.global_step}; "
            "they are not saved.",
            step=trainer.global_step,
        )


def examples_of(batch: MicroBatch) -> list[int]:
    """The indices of a micro-batch's examples."""
    return [i for i in batch.document_ids.unique().tolist() if i >= 0]


def _all_gather(trainer: Trainer, batches: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    if trainer.world_size == 1:
        return batches
    gathered: list[list[tuple[int, list[int]]]] = [[] for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(gathered, batches)
    return [batch for of_rank in gathered for batch in of_rank]


def _describe_examples(trainer: Trainer, examples: Iterable[int]) -> str:
    """The first examples, by row and first words."""
    numbers = list(examples)
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # set by fit
    train: Sequence[Example] = data.splits.train if isinstance(data, SFTDataModule) else ()
    descriptions: list[str] = []
    for i in numbers[:SHOWN_ROWS]:
        if i >= len(train):
            descriptions.append(f"example {i + 1}")
            continue
        words = " ".join(message.content for message in train[i].messages).split()
        position = f"row {train[i].row}" if train[i].row is not None else f"example {i + 1}"
        descriptions.append(f"{position} ({' '.join(words)[:40]!r})")
    more = len(numbers) - len(descriptions)
    return ", ".join(descriptions) + (f" and {more:,} more" if more else "")
