"""The data module of streamed training data: batches from blocks that are read while training.

Every process reads all blocks and takes its own rows of each, so that processes together train what one would.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from data import DataError
from data.cache import PreparedData
from data.example import Splits
from data.loader import Batch, TrainLoader, collate
from data.module import PACKING, DataReport, SFTDataModule
from data.packing import GROUPED_BATCHES, Batches, group_by_length, pack
from data.sources import Source
from data.streaming import Block, Blocks, BlockStart, ExampleStream, as_state
from data.tokenize import Tokenized, tokenize
from resonance.chat_template import ChatTemplate

_REMEMBERED = 64  # blocks; Lightning prefetches a batch or two, so that the trained batch is in one of them


@dataclass(frozen=True, slots=True)
class StreamReport(DataReport):
    """What a run streams; `train`, `rows`, `batches` and `filled` are those of its first block.

    `buffer` is the number of examples of a block.
    """

    buffer: int = 0

    def __str__(self) -> str:
        lines = [
            f"streamed while training, in blocks of {self.buffer:,} examples; the first, shorter one: {self.train}; "
            f"{self.rows:,} rows, {self.filled:.0%} filled",
            f"validation {self.validation}",
        ]
        return "\n".join(f"{self.name}: {line}" for line in lines)


class StreamingDataModule(SFTDataModule):
    """Supervised fine-tuning data that is never held as a whole; the arguments are those of `SFTDataModule`."""

    def __init__(
        self,
        source: Source,
        stream: ExampleStream,
        template: ChatTemplate,
        *,
        context_length: int,
        batch_size: int,
        packing: bool = True,
        row_length: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            source,
            template,
            context_length=context_length,
            batch_size=batch_size,
            packing=packing,
            row_length=row_length,
            seed=seed,
        )
        self._stream = stream
        self._blocks = Blocks(stream, template, context_length, seed)
        self._loader: StreamingLoader | None = None

    def _data(self) -> PreparedData:
        """Validation, and the first block in the place of the training data."""
        if self._prepared is None:
            held = self._stream.held_out()
            first = self._blocks.read(BlockStart()).tokens
            if not len(first):
                raise DataError(
                    f"None of the first {first.report.examples} training examples of {self.source.name} has anything "
                    f"to learn from ({first.report}); give data with answers, a longer context, or smaller shares of "
                    "validation and test."
                )
            validation = tokenize(held.validation, self.template, self.context_length)
            splits = Splits((), held.validation, held.test)
            self._prepared = PreparedData(splits, first, validation, self._stream.fingerprint(), 0, ())
        return self._prepared

    @property
    def epoch_length(self) -> int:
        """More than any run has: only reading can tell."""
        return sys.maxsize

    def epoch_of(self, batch: int) -> int:
        """The epoch of one of the latest batches, from 0."""
        return 0 if self._loader is None else self._loader.epoch_of(batch)

    @property
    def used_tokens(self) -> Tensor:
        """Unknown: raises DataError."""
        raise DataError("loss.sampled_tokens needs all of the data's tokens; with data.streaming=true it must be null.")

    @property
    def report(self) -> StreamReport:
        """What validation and the first block hold."""
        data = self._data()
        batches = self._plan(Block(BlockStart(), data.train, BlockStart()), rank=0, world_size=1)
        plans = [row for batch in batches for row in batch]
        tokens = data.train.report.tokens
        longest = [max(self._row_tokens(data.train, row) for row in batch) * len(batch) for batch in batches]
        capacity = sum(longest) if self._row_length is None else len(plans) * self._row_length
        return StreamReport(
            name=self.source.name,
            train=data.train.report,
            validation=data.validation.report,
            rows=len(plans),
            batches=len(batches),
            filled=tokens / capacity,
            processes=self._process()[1],
            buffer=self._stream.settings.buffer,
        )

    def train_dataloader(self) -> TrainLoader:
        """An endless loader of this process's training batches, whose state is saved in Lightning's checkpoints."""
        rank, world_size = self._process()
        stream = self._stream.settings
        settings: dict[str, object] = {
            "data": self.fingerprint[:16],
            "template": self.template.name,
            "context_length": self.context_length,
            "row_length": self._row_length,
            "batch_size": self.batch_size,
            "processes": world_size,
            "seed": self.seed,
            "buffer": stream.buffer,
            "packing": PACKING if self._row_length is not None else "none",
        }
        if self._row_length is None:
            settings["sorted_together"] = self.batch_size * world_size * GROUPED_BATCHES
        self._loader = StreamingLoader(
            self._blocks,
            lambda block: self._plan(block, rank=rank, world_size=world_size),
            row_length=self._row_length,
            settings=settings,
            trained=self._trained_batches if self.trainer is not None else None,
        )
        return self._loader

    def _plan(self, block: Block, *, rank: int, world_size: int) -> Batches:
        seed = f"{self.seed}/{block.start.seed}"
        lengths = block.tokens.lengths
        rows = (
            group_by_length(lengths, self.batch_size * world_size, seed)
            if self._row_length is None
            else pack(lengths, self._row_length, seed)
        )
        return Batches(rows, self.batch_size, seed, rank=rank, world_size=world_size)

    @staticmethod
    def _row_tokens(data: Tokenized, row: tuple[int, ...]) -> int:
        return int(np.sum(data.lengths[list(row)]))


class StreamingLoader(TrainLoader):
    """A training loader that reads the next block while the present one is trained on.

    Its state holds the start of the block of the last trained batch, so that resuming reads one block again at most.
    """

    def __init__(
        self,
        blocks: Blocks,
        plan: Callable[[Block], Batches],
        *,
        row_length: int | None,
        settings: Mapping[str, object],
        trained: Callable[[], int] | None,
    ) -> None:
        self._blocks, self._plan_block = blocks, plan
        self._row_length = row_length
        self._settings, self._trained = dict(settings), trained
        self.epoch_length = sys.maxsize
        self._start = self._yielded = 0
        # The latest blocks' starts, each with the number of its first batch.
        self._starts: deque[tuple[int, BlockStart]] = deque([(0, BlockStart())], _REMEMBERED)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches endlessly, from the run's position."""
        self._yielded = self._start
        first, start = self._start_of(self._start)
        with ThreadPoolExecutor(1, thread_name_prefix="data") as thread:
            reading = thread.submit(self._blocks.read, start)
            while True:
                block = reading.result()
                reading = thread.submit(self._blocks.read, block.next)
                if self._starts[-1] != (first, block.start):
                    self._starts.append((first, block.start))
                batches = self._plan_block(block)
                for i in range(self._yielded - first, len(batches)):
                    self._yielded += 1
                    yield collate(block.tokens, batches[i], self._row_length)
                first += len(batches)

    def epoch_of(self, batch: int) -> int:
        """The epoch of one of the latest batches, from 0."""
        return self._start_of(batch)[1].epoch

    def state_dict(self) -> dict[str, Any]:
        """The number of trained batches, where the last one's block starts, and what the order depends on."""
        state = super().state_dict()
        first, start = self._start_of(max(0, int(state["trained"]) - 1))
        return {**state, "first": first, "block": as_state(start)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state. Raises DataError when the batches would differ."""
        if "block" not in state_dict:
            raise DataError(
                "The run's order of batches cannot be continued: its data was not streamed. Resume with "
                "data.streaming=false, or begin a new run."
            )
        super().load_state_dict(state_dict)
        self._starts.clear()
        self._starts.append((int(state_dict["first"]), BlockStart(**state_dict["block"])))

    def _start_of(self, batch: int) -> tuple[int, BlockStart]:
        """The block of a batch, with the number of its first batch."""
        return next(entry for entry in reversed(self._starts) if entry[0] <= batch)
