"""Built-in conversations mixed into other data, so that a model fine-tuned on that data also learns what they teach.

What it is for: data sets of instructions hardly ever answer from numbered sources, cite them, or say that they do not
hold the answer; the families of `basics` do.
"""

from __future__ import annotations

import random

from data import DataError
from data.example import Splits
from data.sources import Source


class MixedSource(Source):
    """A source with conversations of another one mixed in.

    Args:
        main: the data; all of it is used.
        mixed_in: where the rest comes from, from its start.
        share: of all training conversations, those mixed in; 0.2 adds one to every four of `main`.
        seed: of the order in which the training conversations stand.

    The held-out splits are both sources' own, one behind the other, so that each is scored.
    """

    def __init__(self, *, main: Source, mixed_in: Source, share: float, seed: int = 0) -> None:
        if not 0 <= share < 1:
            raise DataError(f"The share of what is mixed in is {share}; it must be at least 0 and below 1.")
        self._main, self._mixed_in, self._share, self._seed = main, mixed_in, share, seed

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self._main.name} + {self._mixed_in.name}"

    def read(self) -> Splits:
        """Mix. Raises DataError when `mixed_in` has too few conversations for the share."""
        main, other = self._main.splits(), self._mixed_in.splits()
        wanted = round(len(main.train) * self._share / (1 - self._share))
        if wanted > len(other.train):
            raise DataError(
                f"A share of {self._share:g} beside {len(main.train):,} conversations takes {wanted:,} of "
                f"{self._mixed_in.name}, which has {len(other.train):,}; lower the share or raise its train_size."
            )
        train = [*main.train, *other.train[:wanted]]
        random.Random(self._seed).shuffle(train)
        unusable = {
            f"{source.name}: {reason}": rows
            for source, splits in ((self._main, main), (self._mixed_in, other))
            for reason, rows in splits.unusable.items()
        }
        return Splits(train, [*main.validation, *other.validation], [*main.test, *other.test], unusable)
