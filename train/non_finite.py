"""Stops a run whose loss, gradient or weights are not finite numbers, and says where it was."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor, nn

from data.example import SHOWN_ROWS, Example
from data.module import SFTDataModule
from resonance.errors import ResonanceError


class NonFiniteError(ResonanceError):
    """A loss, a gradient or a weight became infinite or NaN; the step is not taken and nothing of it is saved.

    `step` is the optimiser step that was to be taken, `examples` are the indices into the training split of what it
    was made from; empty where no batch is to blame.
    """

    exit_code = 1

    def __init__(self, sentence: str, *, step: int, examples: Sequence[int] = ()) -> None:
        super().__init__(sentence)
        self.step, self.examples = step, examples

    def with_last_state(self, state: Path, saved_step: int) -> "NonFiniteError":
        """The same error, which also says what to go on from."""
        if state.is_file():
            kept = f"The last good state is that of step {saved_step}, in {state}."
        else:
            kept = "No state was saved before."
        kept += " A lower optimizer.lr, a longer scheduler.warmup_steps or trainer.precision=32-true may help."
        return NonFiniteError(f"{self} {kept}", step=self.step, examples=self.examples)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What is remembered of a micro-batch until its step is taken; `document_ids` (B, T) name its examples."""

    number: int
    loss: float
    document_ids: Tensor


def check_step(trainer: Trainer, loss: float, grad_norm: float, lr: float, batches: Sequence[MicroBatch]) -> None:
    """Raise NonFiniteError, on all ranks, if a step's loss or gradient is not finite. Costs nothing if they are."""
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    step = trainer.global_step + 1
    mine = [batch for batch in batches if not math.isfinite(batch.loss)]
    of_ranks = _from_all_ranks(trainer, [(batch.number, examples_of(batch)) for batch in mine])
    if not of_ranks:  # only the gradient is not finite, which no single micro-batch shows
        of_ranks = _from_all_ranks(trainer, [(batch.number, examples_of(batch)) for batch in batches])
    numbers = sorted({number for number, _ in of_ranks})
    examples = sorted({i for _, found in of_ranks for i in found})
    held = f"batch {numbers[0]}" if len(numbers) == 1 else f"batches {numbers[0]} to {numbers[-1]}"
    raise NonFiniteError(
        f"Step {step} is not taken: its loss is {loss:g} and its gradient's norm is {grad_norm:g}, at a learning rate "
        f"of {lr:.2g}. It was made from {held}, with {len(examples):,} examples: {_told(trainer, examples)}.",
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
    """Raise NonFiniteError if a weight is not finite; called before weights are written."""
    broken = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise NonFiniteError(
            f"{len(broken)} weights, the first being {broken[0]}, are not finite after step {trainer.global_step}; "
            "they are not saved.",
            step=trainer.global_step,
        )


def examples_of(batch: MicroBatch) -> list[int]:
    """The indices of a micro-batch's examples."""
    return [i for i in batch.document_ids.unique().tolist() if i >= 0]


def _from_all_ranks(trainer: Trainer, found: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    if trainer.world_size == 1:
        return found
    gathered: list[list[tuple[int, list[int]]]] = [[] for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(gathered, found)
    return [pair for of_rank in gathered for pair in of_rank]


def _told(trainer: Trainer, examples: Iterable[int]) -> str:
    """The first examples by row and first words, where the run's data is at hand."""
    numbers = list(examples)
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # set by fit
    train: Sequence[Example] = data.splits.train if isinstance(data, SFTDataModule) else ()
    told: list[str] = []
    for i in numbers[:SHOWN_ROWS]:
        if i >= len(train):
            told.append(f"example {i + 1}")
            continue
        words = " ".join(message.content for message in train[i].messages).split()
        place = f"row {train[i].row}" if train[i].row is not None else f"example {i + 1}"
        told.append(f"{place} ({' '.join(words)[:40]!r})")
    more = len(numbers) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more else "")
