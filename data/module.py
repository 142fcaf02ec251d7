"""The Lightning data module: training and validation batches from a source, a template and a window.

The training order is a pure function of seed and epoch; a resumed run sees exactly the batches that it has not trained
on. All data is tokenised once, in memory or in a cache, without worker processes for loading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data import DataError
from data.cache import PreparedData, prepare
from data.example import Splits, UnusableRows, shown_rows
from data.loader import Batch, FixedLoader, TrainLoader, collate
from data.packing import GROUPED_BATCHES, Batches, BatchPlan, Rows, Shares, count_batches, group_by_length, pack, share
from data.sources import Source
from data.tokenize import Report, Tokenized
from resonance.chat_template import ChatTemplate

PACKING = "best-fit"  # the algorithm, which the order of batches depends on


@dataclass(frozen=True, slots=True)
class DataReport:
    """What a run trains on, and what it skips.

    `rows` counts an epoch's rows over all processes, `batches` the batches of each process; `filled` is the share of
    tokens that are not padding. `unusable` are the source's rows in no split; `duplicates` describes duplicates.
    """

    name: str
    train: Report
    validation: Report
    rows: int
    batches: int
    filled: float
    processes: int = 1
    unusable: UnusableRows = field(default_factory=dict[str, Sequence[int]])
    duplicates: Sequence[str] = ()

    def __str__(self) -> str:
        each = f"{self.processes} x " if self.processes > 1 else ""
        lines = [
            f"train {self.train}; an epoch has {each}{self.batches:,} batches of {self.rows:,} rows, "
            f"{self.filled:.0%} filled",
            f"validation {self.validation}",
            *(
                f"{len(rows):,} unusable: {reason} ({shown_rows(rows)})"
                for reason, rows in sorted(self.unusable.items())
            ),
            *self.duplicates,
        ]
        return "\n".join(f"{self.name}: {line}" for line in lines)


class SFTDataModule(lightning.LightningDataModule):
    """Supervised fine-tuning data.

    Args:
        source: the source of the examples.
        template: the chat template that renders them.
        context_length: the most tokens of an example.
        batch_size: rows per batch and process.
        packing: pack several examples into a row; otherwise one per row, grouped by length and padded per batch.
        row_length: tokens of a packed row; at least `context_length`, the default.
        seed: of the training order.
        cache: the folder that keeps tokenised data for the next start; None: read and tokenise in memory.
    """

    _in_parts = True  # whether a batch may be trained on in parts

    def __init__(
        self,
        source: Source,
        template: ChatTemplate,
        *,
        context_length: int,
        batch_size: int,
        packing: bool = True,
        row_length: int | None = None,
        seed: int = 0,
        cache: Path | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise DataError(f"The batch size is {batch_size}; it must be at least 1.")
        if row_length is not None and row_length < context_length:
            raise DataError(f"`row_length` is {row_length}; it must be at least the context length, {context_length}.")
        self.source, self.template = source, template
        self.context_length, self.batch_size, self.seed = context_length, batch_size, seed
        self._row_length = (row_length or context_length) if packing else None
        self._cache = cache
        self._rows_at_once: int | None = None  # of a resumed run
        self._prepared: PreparedData | None = None
        self._epoch: tuple[int, Rows] | None = None  # the last epoch that was packed

    def setup(self, stage: str | None = None) -> None:
        """Read and tokenise the data once. Training skips examples whose prompt is in validation or test.

        Raises DataError when no example has anything to train on.
        """
        self._data()

    def _data(self) -> PreparedData:
        if self._prepared is None:
            self._prepared = prepare(self.source, self.template, self.context_length, self._cache)
        return self._prepared

    @property
    def splits(self) -> Splits:
        """The examples; read when they are used where there is a cache."""
        return self._data().splits

    @property
    def fingerprint(self) -> str:
        """The content hash of all splits."""
        return self._data().fingerprint

    @property
    def used_tokens(self) -> Tensor:
        """(U,) int64: all token ids in the training data, as input or label."""
        return torch.from_numpy(self._data().train.token_ids.copy())

    @property
    def longest(self) -> int:
        """Tokens of the longest training example."""
        return int(self._data().train.lengths.max())

    def go_on_with(self, rows: int) -> None:
        """Train on as many rows at once, over all processes, as the run did before it was interrupted.

        With another number of processes its steps are the same then, in smaller batches or in several `parts`.
        """
        self._rows_at_once = rows

    @property
    def shares(self) -> Shares:
        """How the processes share the rows that they train on at once. Raises DataError when they cannot equally."""
        world_size = self._process()[1]
        if self._rows_at_once is None:
            return Shares(self.batch_size, world_size)
        return share(self._rows_at_once, self.batch_size, world_size, in_parts=self._in_parts)

    @property
    def epoch_length(self) -> int:
        """Batches per epoch and process."""
        rows, shares = self._epoch[1] if self._epoch else self._train_rows(0), self.shares
        return count_batches(len(rows), shares.rows) * shares.parts

    def epoch_of(self, batch: int) -> int:
        """The epoch of a batch, from 0."""
        return batch // self.epoch_length

    @property
    def report(self) -> DataReport:
        """What was tokenised, skipped and cut, and the composition of an epoch."""
        train, validation = self._data().train, self._data().validation
        rows, lengths = self._train_rows(0), train.lengths
        capacity = (
            len(rows) * self._row_length
            if self._row_length is not None
            else sum(
                len(batch) * max(int(lengths[i]) for row in batch for i in row)
                for batch in Batches(rows, self.batch_size, "")
            )
        )
        return DataReport(
            name=self.source.name,
            train=train.report,
            validation=validation.report,
            rows=len(rows),
            batches=self.epoch_length,
            filled=train.report.tokens / capacity,
            processes=self._process()[1],
            unusable=self.splits.unusable,
            duplicates=self._data().duplicates,
        )

    def train_dataloader(self) -> TrainLoader:
        """An endless loader of this process's training batches, whose state is saved in Lightning's checkpoints."""
        shares = self.shares

        settings: dict[str, object] = {
            "data": self.fingerprint[:16],
            "template": self.template.name,
            "context_length": self.context_length,
            "row_length": self._row_length,
            "batch_size": self.batch_size,
            "processes": shares.world_size,
            "rows": shares.rows,
            "seed": self.seed,
        }
        if self._row_length is not None:  # older states were packed otherwise and do not have this setting
            settings["packing"] = PACKING
        else:
            settings["sorted_together"] = shares.rows * GROUPED_BATCHES
        if held_out := self._data().held_out:  # older states do not have this setting
            settings["held_out"] = held_out
        return TrainLoader(
            self._data().train,
            self._train_batches,
            self.epoch_length,
            row_length=self._row_length,
            settings=settings,
            trained=self._trained_batches if self.trainer is not None else None,
            parts=shares.parts,
        )

    def val_dataloader(self) -> FixedLoader:
        """The process's validation batches, the same at every validation; none without validation examples.

        In a mixture each batch is of one source, whose index is the batch's `source`, a () int64 tensor.
        """
        validation, sources = self._data().validation, self.splits.validation_sources
        rank, world_size = self._process()
        if not sources:
            rows = self._rows(validation.lengths, epoch=0)
            batches = Batches(rows, self.batch_size, "", rank=rank, world_size=world_size)
            return FixedLoader([partial(collate, validation, batch, self._row_length) for batch in batches])
        source_of = np.repeat(np.arange(len(sources)), list(sources.values()))[validation.indices]
        loaded: list[Callable[[], Batch]] = []
        for source in range(len(sources)):
            members = np.flatnonzero(source_of == source)
            rows = self._rows(validation.lengths[members], epoch=0)
            rows = Rows(members[rows.examples], rows.ends)
            for batch in Batches(rows, self.batch_size, "", rank=rank, world_size=world_size):
                loaded.append(partial(_collate_of, source, validation, batch, self._row_length))
        return FixedLoader(loaded)

    def _train_batches(self, epoch: int) -> Batches:
        """The batches of a training epoch, of this process."""
        shares, (rank, world_size) = self.shares, self._process()
        return Batches(
            self._train_rows(epoch),
            shares.batch_size,
            f"{self.seed}/{epoch}",
            rank=rank,
            world_size=world_size,
            parts=shares.parts,
        )

    def _train_rows(self, epoch: int) -> Rows:
        """A training epoch's rows, packed once; their number is the same in every epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._rows(self._data().train.lengths, epoch)
        return self._epoch[1]

    def _rows(self, lengths: NDArray[np.int64], epoch: int) -> Rows:
        if self._row_length is None:
            return group_by_length(lengths, self.shares.rows, f"{self.seed}/{epoch}")
        return pack(lengths, self._row_length, f"{self.seed}/{epoch}")

    def _process(self) -> tuple[int, int]:
        """The rank of this process, and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _trained_batches(self) -> int:
        """The batches that Lightning has finished; an interrupted batch comes again."""
        assert self.trainer is not None
        progress = cast(Any, self.trainer.fit_loop.epoch_loop.batch_progress.total)  # typed too narrowly there
        return int(progress.processed)


def _collate_of(source: int, data: Tokenized, plan: BatchPlan, row_length: int | None) -> Batch:
    """`collate`, with the source of a mixture that the batch is of."""
    return {**collate(data, plan, row_length), "source": torch.tensor(source)}
