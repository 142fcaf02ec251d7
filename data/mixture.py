"""Mixes a share of another source into a data set.

Instruction data sets hardly ever answer from numbered sources, cite them, or say that they lack the answer; the
families of `basics` do. A model that is fine-tuned on the mixture learns both.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable

import numpy as np

from data import DataError
from data.example import Example, SplitIndices, Splits
from data.repetitions import deduplicate_mode, leakage_mode
from data.sources import Source, cache_key, write_examples


class MixedSource(Source):
    """A source with examples of another one mixed in.

    Args:
        main: the main data; all of it is used.
        mixed_in: the source of the other examples, taken from its start.
        share: the mixed-in share of all training examples; 0.2 adds one per four of `main`.
        seed: of the order of the training examples.

    The held-out splits are concatenations of both sources' splits.
    """

    def __init__(
        self,
        *,
        main: Source,
        mixed_in: Source,
        share: float,
        seed: int = 0,
        deduplicate: object = None,
        leakage: str = "remove",
    ) -> None:
        self.deduplicate, self.leakage = deduplicate_mode(deduplicate), leakage_mode(leakage)
        if not 0 <= share < 1:
            raise DataError(f"The share of what is mixed in is {share}; it must be at least 0 and below 1.")
        self._main, self._mixed_in, self._share, self._seed = main, mixed_in, share, seed

    @property
    def name(self) -> str:
        """Both sources' names."""
        return f"{self._main.name} + {self._mixed_in.name}"

    def read(self) -> Splits:
        """Mix the training splits. Raises DataError when `mixed_in` has too few examples for the share."""
        examples: list[Example] = []
        parts = self.write(examples.append)
        train, validation, test = (
            [examples[i] for i in part.tolist()] for part in (parts.train, parts.validation, parts.test)
        )
        return Splits(train, validation, test, parts.unusable)

    def write(self, add: Callable[[Example], None]) -> SplitIndices:
        """Mix the training splits of what both sources write."""
        offset = 0

        def count_main(example: Example) -> None:
            nonlocal offset
            offset += 1
            add(example)

        main = write_examples(self._main, count_main)
        other = write_examples(self._mixed_in, add)
        count = round(len(main.train) * self._share / (1 - self._share))
        if count > len(other.train):
            raise DataError(
                f"A share of {self._share:g} beside {len(main.train):,} conversations takes {count:,} of "
                f"{self._mixed_in.name}, which has {len(other.train):,}; lower the share or raise its train_size."
            )
        train = array("q", [*main.train.tolist(), *(other.train[:count] + offset).tolist()])
        random.Random(self._seed).shuffle(train)
        unusable = {
            f"{source.name}: {reason}": rows
            for source, parts in ((self._main, main), (self._mixed_in, other))
            for reason, rows in parts.unusable.items()
        }
        return SplitIndices(
            np.frombuffer(train, np.int64),
            np.concatenate([main.validation, other.validation + offset]),
            np.concatenate([main.test, other.test + offset]),
            unusable,
        )

    def cache_key(self) -> str | None:
        """Both sources' keys, and how they are mixed."""
        keys = [cache_key(source) for source in (self._main, self._mixed_in)]
        return None if None in keys else f"{keys} {self._share} {self._seed}"
