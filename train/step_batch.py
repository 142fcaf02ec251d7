"""A batch with what a step needs to know as numbers, found on the CPU before the batch moves to the device.

A GPU computes behind the program, which must never wait for a number of it: how many tokens count, where they stand and
where documents end come with the batch.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from resonance.model import Documents, document_lengths
from resonance.pinned_memory import to_device
from train.losses import IGNORE, labels_of_all_tokens, position_weights
from train.objectives import SFT, Objective

Batch = Mapping[str, Tensor]  # input_ids, labels, position_ids, document_ids: (B, T) int64 each
_NUMBERS = ("source", "sequence_ids")  # entries that the CPU reads, and that stay there
_FEWEST_STARTS, _SHORTEST = 16, 128


class Computed(NamedTuple):
    """Tokens that pass through the model forward and backward, and those of them that pass through its head.

    A token without a backward pass counts as a third.
    """

    tokens: float = 0.0
    supervised: float = 0.0

    def plus(self, other: "Computed", times: float = 1.0) -> "Computed":
        """The sum with so many times the other numbers."""
        return Computed(self.tokens + times * other.tokens, self.supervised + times * other.supervised)


class StepBatch(dict[str, Tensor]):
    """A batch's tensors, and numbers about them.

    Beside the tensors of the collator: `supervised_at` (n,) int64, where in the flattened rows the labels are; with the
    objective's options also `weights` (B, T) float32 of the positions, and `document_sizes` (B, T) int64, the number of
    tokens of each token's document.
    """

    tokens: int  # without padding
    units: int  # the tokens, turns or examples that the loss adds up
    computed: "Computed"
    documents: Documents
    one_document_a_row: bool  # and padding after it
    halves: "tuple[StepBatch, StepBatch] | None" = None  # the first and the second sequences of all units, for KTO

    def to_device(self, device: torch.device) -> "StepBatch":
        """The batch on a device, which the CPU does not wait for."""
        moved = StepBatch(
            {name: value if name in _NUMBERS else to_device(value, device) for name, value in self.items()}
        )
        moved.tokens, moved.units, moved.computed = self.tokens, self.units, self.computed
        moved.one_document_a_row = self.one_document_a_row
        moved.documents = self.documents._replace(starts=to_device(self.documents.starts, device))
        moved.halves = self.halves and (self.halves[0].to_device(device), self.halves[1].to_device(device))
        return moved


def prepare(batch: Batch, objective: Objective | None = None) -> StepBatch:
    """Add what a step needs to a batch on the CPU; with an `objective`, what its options need in training."""
    prepared = StepBatch(batch)
    document_ids, labels, count = batch["document_ids"], batch["labels"], None
    if isinstance(objective, SFT):
        if objective.loss_on == "all":
            prepared["labels"] = labels = labels_of_all_tokens(batch["input_ids"], labels, document_ids)
        if objective.weight != "token":
            prepared["weights"], count = position_weights(labels, document_ids, of=objective.weight)
    prepared["supervised_at"] = (labels.flatten() != IGNORE).nonzero()[:, 0]
    lengths = document_lengths(document_ids)
    if isinstance(objective, SFT) and objective.neftune_alpha:
        sizes = torch.tensor(lengths)
        prepared["document_sizes"] = sizes.repeat_interleave(sizes).view_as(document_ids)
    prepared.documents = _documents(lengths)
    prepared.tokens = int((document_ids >= 0).sum())
    prepared.units = len(prepared["supervised_at"]) if count is None else count
    prepared.computed = Computed(prepared.tokens, len(prepared["supervised_at"]))
    # Ids differ between neighbours only before a row's padding.
    changes = document_ids[:, 1:] != document_ids[:, :-1]
    prepared.one_document_a_row = not bool((changes & (document_ids[:, 1:] >= 0)).any())
    return prepared


def _documents(lengths: list[int]) -> Documents:
    """The documents, with starts and a longest length of few different sizes: compiled blocks then have few shapes."""
    size = max(_FEWEST_STARTS, _power_of_two(len(lengths) + 1))
    total = sum(lengths)
    starts = [0, *accumulate(lengths)]
    starts += [total] * (size - len(starts))  # documents of no tokens
    longest = max(_SHORTEST, _power_of_two(max(lengths)))
    return Documents(lengths, torch.tensor(starts, dtype=torch.int32), longest)


def _power_of_two(at_least: int) -> int:
    return 1 << (at_least - 1).bit_length()
