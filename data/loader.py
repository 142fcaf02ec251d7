"""Batches for training, in an order that can be taken up again in the middle of an epoch.

Knows Lightning's protocol for loaders that are saved with a checkpoint (`state_dict`, `load_state_dict`) and nothing of
how the batches are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from data import DataError
from data.packing import BatchPlan
from data.tokenize import IGNORE, Tokenized

Batch: TypeAlias = dict[str, Tensor]


def collate(data: Tokenized, plan: BatchPlan, row_length: int | None = None) -> Batch:
    """The tensors of a batch, all (rows, time) int64; time is `row_length`, or the longest row's length if None.

    `input_ids`; `labels` (the target of the input at the same place, IGNORE where there is none); `position_ids`,
    from 0 in each example; `document_ids`, which example a token belongs to, by its place among those that were
    tokenised, -1 on padding. A batch without rows becomes one row of padding.
    """
    rows = plan or ((),)
    lengths = data.lengths
    time = row_length or max(1, *(sum(int(lengths[i]) for i in row) for row in rows))
    input_ids = np.zeros((len(rows), time), np.int64)
    labels = np.full((len(rows), time), IGNORE, np.int64)
    position_ids = np.zeros((len(rows), time), np.int64)
    document_ids = np.full((len(rows), time), -1, np.int64)
    for r, row in enumerate(rows):
        place = 0
        for i in row:
            start, end = data.offsets[i], data.offsets[i + 1]
            here = slice(place, place + int(end - start))
            input_ids[r, here] = data.input_ids[start:end]
            labels[r, here] = data.labels[start:end]
            position_ids[r, here] = np.arange(end - start)
            document_ids[r, here] = data.places[i]
            place = here.stop
    arrays = {
        "input_ids": input_ids,
        "labels": labels,
        "position_ids": position_ids,
        "document_ids": document_ids,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class FixedLoader:
    """The same batches each time it is iterated."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


class TrainLoader:
    """Training batches, epoch after epoch without an end; iterating goes on where the loaded state left off.

    An epoch's remainder and the next epoch's first batches may so make one optimiser step. `plan` gives an epoch's
    batches and must depend on the epoch alone; `epoch_length` is their number. `settings` are what else the order
    depends on: they are saved, and a state with others is refused. `trained` tells how many batches have been trained
    on; without it, those handed out count as trained.
    """

    def __init__(
        self,
        data: Tokenized,
        plan: Callable[[int], Sequence[BatchPlan]],
        epoch_length: int,
        *,
        row_length: int | None = None,
        settings: Mapping[str, object],
        trained: Callable[[], int] | None = None,
    ) -> None:
        self.epoch_length = epoch_length
        self._data, self._plan, self._row_length = data, plan, row_length
        self._settings = dict(settings)
        self._trained = trained
        self._start = 0  # the batch to begin with: not 0 when a run is continued
        self._handed_out = 0  # batches of the run, those before `_start` included

    def __iter__(self) -> Iterator[Batch]:
        """Batches from where the run stands, without an end."""
        self._handed_out = self._start
        while True:
            number, first = divmod(self._handed_out, self.epoch_length)
            for plan in self._plan(number)[first:]:
                self._handed_out += 1
                yield collate(self._data, plan, self._row_length)

    def state_dict(self) -> dict[str, Any]:
        """How many batches of the run have been trained on, and the settings behind their order."""
        trained = self._handed_out if self._trained is None else min(self._trained(), self._handed_out)
        return {"trained": trained, "settings": self._settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the state was saved. Raises DataError when the batches would not be the same."""
        saved: dict[str, object] = state_dict["settings"]
        changed = [
            f"{name} was {saved.get(name)} and is {value}"
            for name, value in self._settings.items()
            if saved.get(name) != value
        ]
        if changed:
            raise DataError(
                f"The run's order of batches cannot be continued: {'; '.join(changed)}. Resume with the same data "
                "settings, or begin a new run."
            )
        self._start = self._handed_out = state_dict["trained"]
