"""The Lightning data module of preference training: batches of pairs (DPO) or votes (KTO)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data import DataError
from data.cache import check_leakage
from data.duplicates import Duplicates, describe, find_duplicates
from data.example import Splits
from data.loader import Batch, FixedLoader, TrainLoader
from data.module import DataReport, SFTDataModule
from data.packing import GROUPED_BATCHES, Batches, BatchPlan, Rows, count_batches, group_by_length
from data.preferences import Kind, Sequences, tokenize_preferences
from data.sources import Source
from data.tokenize import IGNORE
from resonance.chat_template import ChatTemplate

_WANTED: Mapping[Kind, str] = {
    "pairs": "objective=dpo needs rows with a prompt, a chosen and a rejected answer",
    "votes": "objective=kto needs rows with a prompt, a completion and a label (true or false), or pairs of answers",
}


class PreferenceDataModule(SFTDataModule):
    """Data with one unit, a pair or a vote, in two rows of a batch, padded to the batch's longest sequence.

    Args:
        source: the source of the examples.
        template: the chat template that renders them.
        kind: pairs or votes.
        context_length: the most tokens of a sequence.
        batch_size: units per batch and process.
        seed: of the training order.

    Sequences are numbered over both splits, those of training first; `reference_batches` yields each one once.
    """

    def __init__(
        self, source: Source, template: ChatTemplate, kind: Kind, *, context_length: int, batch_size: int, seed: int = 0
    ) -> None:
        super().__init__(
            source, template, context_length=context_length, batch_size=batch_size, packing=False, seed=seed
        )
        self.kind: Kind = kind
        self._in_parts = kind == "pairs"  # the divergence that KTO estimates is of a whole batch
        self._units: tuple[Sequences, Sequences] | None = None  # of training and validation
        self._found = Duplicates((), (), ())
        self._order: tuple[int, Rows] | None = None  # the last epoch's

    def setup(self, stage: str | None = None) -> None:
        """Read and tokenise the data once. Training skips examples whose prompt is in validation or test.

        Raises DataError when no example is a pair or a vote, and when the source refuses leakage and there is some.
        """
        if self._units is not None:
            return
        splits = self.splits
        self._found = find_duplicates(splits)
        held_out = self._found.held_out
        check_leakage(self.source, len(held_out))
        train, validation = (
            tokenize_preferences(part, self.kind, self.template, self.context_length, seed=self.seed, held_out=excluded)
            for part, excluded in ((splits.train, held_out), (splits.validation, frozenset[int]()))
        )
        if not len(train):
            raise DataError(
                f"None of the {len(splits.train):,} training examples of {self.source.name} can be used "
                f"({train.report}); {_WANTED[self.kind]}: data=json data.path=FILE."
            )
        self._units = train, validation

    @property
    def splits(self) -> Splits:
        """The examples."""
        return self.source.splits()

    @property
    def fingerprint(self) -> str:
        """The content hash of all splits, rejected answers and votes included."""
        splits = self.splits
        digest = hashlib.sha256(self.source.fingerprint().encode())
        for part in (splits.train, splits.validation, splits.test):
            for example in part:
                digest.update(json.dumps([example.rejected, example.desirable]).encode())
        return digest.hexdigest()

    @property
    def used_tokens(self) -> Tensor:
        """(U,) int64: all token ids in the training data, as input or label."""
        train, _ = self._both()
        return torch.from_numpy(np.union1d(train.input_ids, train.labels[train.labels != IGNORE]).astype(np.int64))

    @property
    def longest(self) -> int:
        """Tokens of the longest training sequence."""
        return int(self._both()[0].lengths.max())

    @property
    def votes(self) -> tuple[int, int]:
        """The numbers of desirable and of undesirable answers in training."""
        desirable = self._both()[0].desirable
        return int(desirable.sum()), int((~desirable).sum())

    @property
    def sequence_count(self) -> int:
        """The number of sequences of both splits."""
        return sum(2 * len(units) for units in self._both())

    @property
    def report(self) -> DataReport:
        """What was tokenised, skipped and cut, and the composition of an epoch."""
        train, validation = self._both()
        batches = Batches(self._train_rows(0), self.batch_size, "")
        capacity = sum(2 * len(batch) * int(_longest(train, batch)) for batch in batches)
        return DataReport(
            name=self.source.name,
            train=train.report,
            validation=validation.report,
            rows=2 * len(train),
            batches=self.epoch_length,
            filled=train.report.tokens / capacity,
            processes=self._process()[1],
            unusable=self.splits.unusable,
            duplicates=describe(self._found, self.splits.train),
        )

    def train_dataloader(self) -> TrainLoader:
        """An endless loader of this process's training batches, whose state is saved in Lightning's checkpoints."""
        train, _ = self._both()
        shares = self.shares
        settings: dict[str, object] = {
            "data": self.fingerprint[:16],
            "kind": self.kind,
            "template": self.template.name,
            "context_length": self.context_length,
            "batch_size": self.batch_size,
            "processes": shares.world_size,
            "rows": shares.rows,
            "sorted_together": shares.rows * GROUPED_BATCHES,
            "seed": self.seed,
        }
        trained = self._trained_batches if self.trainer is not None else None
        return PreferenceLoader(
            train, self._train_batches, self.epoch_length, settings=settings, trained=trained, parts=shares.parts
        )

    def val_dataloader(self) -> FixedLoader:
        """The process's validation batches, the same at every validation; none without validation examples."""
        train, validation = self._both()
        rank, world_size = self._process()
        rows = _grouped(validation, self.shares.rows, f"{self.seed}/0")
        batches = Batches(rows, self.shares.batch_size, "", rank=rank, world_size=world_size)
        return FixedLoader([partial(collate_units, validation, batch, 2 * len(train)) for batch in batches])

    def reference_batches(self) -> Iterator[Batch]:
        """Yield all sequences of this process's share, each once, in batches of units."""
        first = 0
        rank, world_size = self._process()
        for units in self._both():
            rows = _grouped(units, self.shares.rows, "reference")
            for batch in Batches(rows, self.batch_size, "", rank=rank, world_size=world_size):
                yield collate_units(units, batch, first)
            first += 2 * len(units)

    def _both(self) -> tuple[Sequences, Sequences]:
        self.setup()
        assert self._units is not None
        return self._units

    def _train_rows(self, epoch: int) -> Rows:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, _grouped(self._both()[0], self.shares.rows, f"{self.seed}/{epoch}")
        return self._order[1]

    @property
    def epoch_length(self) -> int:
        """Batches per epoch and process."""
        shares = self.shares
        return count_batches(len(self._both()[0]), shares.rows) * shares.parts


class PreferenceLoader(TrainLoader):
    """A training loader of batches of units."""

    def __init__(
        self,
        units: Sequences,
        plan: Callable[[int], Sequence[BatchPlan]],
        epoch_length: int,
        *,
        settings: Mapping[str, object],
        trained: Callable[[], int] | None = None,
        parts: int = 1,
    ) -> None:
        super().__init__(units, plan, epoch_length, settings=settings, trained=trained, parts=parts)  # pyright: ignore[reportArgumentType]  # `_batch` alone uses the data
        self._units = units

    def _batch(self, plan: BatchPlan) -> Batch:
        return collate_units(self._units, plan, 0)


def collate_units(units: Sequences, plan: BatchPlan, first: int) -> Batch:
    """The tensors of a batch of n units, in 2 n rows: the first sequences of all units, then the second ones.

    `input_ids`, `labels`, `position_ids`, `document_ids`: (2 n, time) int64, as in `data.loader.collate`.
    `sequence_ids`: (2 n,) int64, the number of each sequence; those of the split begin at `first`. `desirable`: (n,)
    bool. A batch without units has two rows of padding, with the sequence ids -1.
    """
    chosen = [unit for row in plan for unit in row]
    sequences = [2 * unit + second for second in (0, 1) for unit in chosen]
    rows = max(2, len(sequences))
    time = max(1, _longest(units, plan))
    input_ids = np.zeros((rows, time), np.int64)
    labels = np.full((rows, time), IGNORE, np.int64)
    position_ids = np.zeros((rows, time), np.int64)
    document_ids = np.full((rows, time), -1, np.int64)
    sequence_ids = np.full(rows, -1, np.int64)
    for r, sequence in enumerate(sequences):
        start, end = units.offsets[sequence], units.offsets[sequence + 1]
        length = int(end - start)
        input_ids[r, :length] = units.input_ids[start:end]
        labels[r, :length] = units.labels[start:end]
        position_ids[r, :length] = np.arange(length)
        document_ids[r, :length] = units.indices[sequence // 2]
        sequence_ids[r] = first + sequence
    desirable: NDArray[Any] = units.desirable[chosen] if chosen else np.ones(1, np.bool_)
    arrays: dict[str, NDArray[Any]] = {
        "input_ids": input_ids,
        "labels": labels,
        "position_ids": position_ids,
        "document_ids": document_ids,
        "sequence_ids": sequence_ids,
        "desirable": desirable,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _longest(units: Sequences, plan: BatchPlan) -> int:
    return max(
        (int(units.offsets[2 * u + s + 1] - units.offsets[2 * u + s]) for row in plan for u in row for s in (0, 1)),
        default=0,
    )


def _grouped(units: Sequences, batch_size: int, seed: str) -> Rows:
    """Units in random order such that neighbours have similar lengths."""
    return group_by_length(units.lengths.reshape(-1, 2).max(1, initial=0), batch_size, seed)
