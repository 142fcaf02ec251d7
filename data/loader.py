"""Batch loaders; the training loader can resume in the middle of an epoch.

Implements Lightning's protocol for loaders with saved state (`state_dict`, `load_state_dict`). Knows nothing of how
batches are composed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from data import DataError
from data.packing import GROUPED_BATCHES, BatchPlan
from data.tokenize import IGNORE, Tokenized

Batch: TypeAlias = dict[str, Tensor]


def collate(data: Tokenized, plan: BatchPlan, row_length: int | None = None) -> Batch:
    """The tensors of a batch, all (rows, time) int64; time is `row_length`, or the longest row's length if None.

    `input_ids`; `labels`, the target at each position, IGNORE without one; `position_ids`, from 0 in each example;
    `document_ids`, each token's example by its index in the split, -1 on padding. A batch without rows becomes one row
    of padding.
    """
    rows = plan or ((),)
    time = row_length or max(1, *(sum(int(data.offsets[i + 1] - data.offsets[i]) for i in row) for row in rows))
    input_ids = np.zeros((len(rows), time), np.int64)
    labels = np.full((len(rows), time), IGNORE, np.int64)
    position_ids = np.zeros((len(rows), time), np.int64)
    document_ids = np.full((len(rows), time), -1, np.int64)
    for r, row in enumerate(rows):
        position = 0
        for i in row:
            start, end = data.offsets[i], data.offsets[i + 1]
            span = slice(position, position + int(end - start))
            input_ids[r, span] = data.input_ids[start:end]
            labels[r, span] = data.labels[start:end]
            position_ids[r, span] = np.arange(end - start)
            document_ids[r, span] = data.indices[i]
            position = span.stop
    arrays = {
        "input_ids": input_ids,
        "labels": labels,
        "position_ids": position_ids,
        "document_ids": document_ids,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class FixedLoader:
    """The same batches on every iteration, each made when it is needed: memory does not hold them."""

    def __init__(self, batches: Sequence[Callable[[], Batch]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return (make() for make in self._batches)


class TrainLoader:
    """An endless iterator over training batches, epoch after epoch; it continues from a loaded state.

    An optimiser step can span two epochs. `plan` returns an epoch's batches, as a function of the epoch alone;
    `epoch_length` is their number. `settings` are what the order of batches depends on: they are saved, and a state
    with other settings is refused. `sorted_together` is the number of unpacked rows that are sorted by length
    together. With `rows` among them, the rows that all processes train on at once, the number of
    processes may differ. Each process trains on them in `parts` batches. `trained` returns the number of trained
    batches; without it, all yielded batches count.
    """

    _parts = 1

    def __init__(
        self,
        data: Tokenized,
        plan: Callable[[int], Sequence[BatchPlan]],
        epoch_length: int,
        *,
        row_length: int | None = None,
        settings: Mapping[str, object],
        trained: Callable[[], int] | None = None,
        parts: int = 1,
    ) -> None:
        self._parts = parts
        self.epoch_length = epoch_length
        self._data, self._plan, self._row_length = data, plan, row_length
        self._settings = dict(settings)
        self._trained = trained
        self._start = 0  # the first batch; not 0 in a resumed run
        self._yielded = 0  # batches of the run, including those before `_start`

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches endlessly, from the run's position."""
        self._yielded = self._start
        while True:
            number, first = divmod(self._yielded, self.epoch_length)
            batches = self._plan(number)
            for i in range(first, len(batches)):
                self._yielded += 1
                yield self._batch(batches[i])

    def _batch(self, plan: BatchPlan) -> Batch:
        return collate(self._data, plan, self._row_length)

    def state_dict(self) -> dict[str, Any]:
        """The number of trained batches, and the settings that determine their order."""
        trained = self._yielded if self._trained is None else min(self._trained(), self._yielded)
        return {"trained": trained, "parts": self._parts, "settings": self._settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state. Raises DataError when the batches would differ."""
        saved: dict[str, Any] = dict(state_dict["settings"])
        # Older states do not have it: each process's own batches were counted.
        saved = {"sorted_together": saved["batch_size"] * GROUPED_BATCHES, **saved}
        if "rows" in self._settings:
            saved = {"rows": saved["batch_size"] * saved["processes"], **saved}  # older states do not have them
            saved["processes"] = self._settings["processes"]
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
        self._start = self._yielded = state_dict["trained"] // state_dict.get("parts", 1) * self._parts
