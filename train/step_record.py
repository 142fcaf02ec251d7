"""The numbers of a step that are still on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.non_finite import MicroBatch


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A finished step: `norm` () is its gradient's before clipping, `supervised` the units of its loss."""

    step: int
    lr: float
    supervised: int
    norm: Tensor
    micro_batches: Sequence[MicroBatch]

    @property
    def numbers(self) -> list[Tensor]:
        """The norm, then the micro-batches' losses, () each."""
        return [self.norm, *(batch.loss for batch in self.micro_batches)]


def floats(numbers: Sequence[Tensor]) -> list[float]:
    """The values of () tensors, by one transfer that waits for the device."""
    return torch.stack([number.double() for number in numbers]).tolist() if numbers else []
