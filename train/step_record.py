"""The loss and gradient norm of each step; on a GPU they stay there until somebody needs them."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.non_finite import MicroBatch

_MOST_SETTLED = 4096  # steps that are kept for a callback


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step: `norm` () is its gradient's before clipping, `supervised` the units of its loss.

    `loss` is their mean loss; None: it is still on the device, with the micro-batches.
    """

    step: int
    lr: float
    supervised: int
    norm: Tensor
    micro_batches: Sequence[MicroBatch]
    loss: float | None = None

    @property
    def numbers(self) -> list[Tensor]:
        """The norm, then the micro-batches' losses, () each, as far as they are needed."""
        return [self.norm, *(batch.loss for batch in self.micro_batches if self.loss is None)]


class StepRecords:
    """The steps of a run in their order, settled or not: a settled one's numbers are known and checked.

    `check` gets a step, its loss and its gradient norm when it is settled, and raises for numbers that are not finite.
    """

    def __init__(self, check: Callable[[StepRecord, float, float], None]) -> None:
        self.loss = self.grad_norm = float("nan")  # of the last settled step
        self._check = check
        self._waiting: list[StepRecord] = []
        self._settled: deque[tuple[int, float, float]] = deque(maxlen=_MOST_SETTLED)

    def add(self, record: StepRecord) -> None:
        """Add the next step; waits for nothing."""
        self._waiting.append(record)

    def settle(self) -> None:
        """Bring the numbers of all steps since the last call from the device, at once, and check them."""
        records, self._waiting = self._waiting, []
        numbers = iter(floats([number for record in records for number in record.numbers]))
        for record in records:
            norm, *losses = [next(numbers) for _ in record.numbers]
            self.loss = sum(losses) / max(1, record.supervised) if record.loss is None else record.loss
            self.grad_norm = norm
            self._check(record, self.loss, norm)
            self._settled.append((record.step, self.loss, norm))

    def take_settled(self) -> list[tuple[int, float, float]]:
        """The steps with their loss and gradient norm that were settled since the last call; waits for nothing."""
        settled = list(self._settled)
        self._settled.clear()
        return settled


def floats(numbers: Sequence[Tensor]) -> list[float]:
    """The values of () tensors, by one transfer that waits for the device."""
    return torch.stack([number.double() for number in numbers]).tolist() if numbers else []
