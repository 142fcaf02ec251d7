"""Mixes a share of another source into a data set.

Instruction data sets hardly ever answer from numbered sources, cite them, or say that they lack the answer; the
families of `basics` do. A model that is fine-tuned on the mixture learns both.
"""

from __future__ import annotations

import random

from data import DataError
from data.example import Splits
from data.sources import Source


class MixedSource(Source):
    """A source with examples of another one mixed in.

    Args:
        main: the main data; all of it is used.
        mixed_in: the source of the other examples, taken from its start.
        share: the mixed-in share of all training examples; 0.2 adds one per four of `main`.
        seed: of the order of the training examples.

    The held-out splits are concatenations of both sources' splits.
    """

    def __init__(self, *, main: Source, mixed_in: Source, share: float, seed: int = 0) -> None:
        if not 0 <= share < 1:
            raise DataError(f"The share of what is mixed in is {share}; it must be at least 0 and below 1.")
        self._main, self._mixed_in, self._share, self._seed = main, mixed_in, share, seed

    @property
    def name(self) -> str:
        """Both sources' names."""
        return f"{self._main.name} + {self._mixed_in.name}"

    def read(self) -> Splits:
        """Mix the training splits. Raises DataError when `mixed_in` has too few examples for the share."""
        main, other = self._main.splits(), self._mixed_in.splits()
        count = round(len(main.train) * self._share / (1 - self._share))
        if count > len(other.train):
            raise DataError(
                f"A share of {self._share:g} beside {len(main.train):,} conversations takes {count:,} of "
                f"{self._mixed_in.name}, which has {len(other.train):,}; lower the share or raise its train_size."
            )
        train = [*main.train, *other.train[:count]]
        random.Random(self._seed).shuffle(train)
        unusable = {
            f"{source.name}: {reason}": rows
            for source, splits in ((self._main, main), (self._mixed_in, other))
            for reason, rows in splits.unusable.items()
        }
        return Splits(train, [*main.validation, *other.validation], [*main.test, *other.test], unusable)
