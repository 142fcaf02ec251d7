"""Mixes sources: by weights, or a share of another source into a data set.

Instruction data sets hardly ever answer from numbered sources, cite them, or say that they lack the answer; the
families of `basics` do. A model that is fine-tuned on the mixture learns both.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

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
        return self.write(examples.append).splits(examples)

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


class WeightedSource(Source):
    """A mixture of sources by weights.

    Args:
        sources: the sources by name, None for one that is left out; validation measures the loss of each.
        weights: the share of each source in the training examples, in any unit; None: as many as each has.
        upsample: repeat examples of sources that are too small for their weight, so that all examples of all sources
            are used; otherwise sources that are too large for it are sampled without replacement, and nothing repeats.
        max_repeats: the most times that an epoch may hold an example.
        size: the number of training examples of an epoch, in the shares of the weights; None: as `upsample` says.
        seed: of the samples and of the order of the training examples.

    The held-out splits are concatenations of the sources' splits. `deduplicate` and `leakage` as in `Source`; the
    examples that upsampling repeats stay.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source | None],
        weights: Mapping[str, float] | None = None,
        upsample: bool = True,
        max_repeats: int = 10,
        size: int | None = None,
        seed: int = 0,
        deduplicate: object = None,
        leakage: str = "remove",
    ) -> None:
        self.deduplicate, self.leakage = deduplicate_mode(deduplicate), leakage_mode(leakage)
        self._sources = {name: source for name, source in sources.items() if source is not None}
        if not self._sources:
            raise DataError("A mixture needs sources; give each a name and a _target_ under data.sources.")
        if weights is not None:
            for name in {*weights, *self._sources}:
                if name not in self._sources or name not in weights:
                    have, lack = ("weight", "source") if name in weights else ("source", "weight")
                    raise DataError(f"data.{have}s has {name!r} and data.{lack}s has not; give both, or neither.")
            for name, weight in weights.items():
                if type(weight) not in (int, float) or not 0 < weight < float("inf"):
                    raise DataError(f"data.weights.{name} is {weight!r}; a weight must be a number above 0.")
        if max_repeats < 1:
            raise DataError(f"data.max_repeats is {max_repeats}; it must be at least 1.")
        if size is not None and (weights is None or size < 1):
            raise DataError(f"data.size={size} needs data.weights, and must be at least 1.")
        self._weights = None if weights is None else dict(weights)
        self._size = size
        self._upsample, self._max_repeats, self._seed = upsample, max_repeats, seed

    @property
    def name(self) -> str:
        """All sources' names."""
        return " + ".join(source.name for source in self._sources.values())

    def read(self) -> Splits:
        """Mix the training splits. Raises DataError when a source would repeat more often than `max_repeats` allows."""
        examples: list[Example] = []
        return self.write(examples.append).splits(examples)

    def write(self, add: Callable[[Example], None]) -> SplitIndices:
        """Mix the training splits of what all sources write."""
        written = 0

        def count(example: Example) -> None:
            nonlocal written
            written += 1
            add(example)

        parts: dict[str, SplitIndices] = {}
        for name, source in self._sources.items():
            offset = written
            own = write_examples(source, count)
            parts[name] = SplitIndices(own.train + offset, own.validation + offset, own.test + offset, own.unusable)
        counts = self._counts({name: len(part.train) for name, part in parts.items()})
        # RandomState's numbers are the same in every version of NumPy.
        rng = np.random.RandomState(self._seed)
        train = [_sample(part.train, counts[name], rng) for name, part in parts.items()]
        return SplitIndices(
            rng.permutation(np.concatenate(train)),
            np.concatenate([part.validation for part in parts.values()]),
            np.concatenate([part.test for part in parts.values()]),
            {f"{name}: {reason}": rows for name, part in parts.items() for reason, rows in part.unusable.items()},
            {name: len(part.validation) for name, part in parts.items()},
        )

    def cache_key(self) -> str | None:
        """All sources' keys, and how they are mixed."""
        keys = {name: cache_key(source) for name, source in self._sources.items()}
        return (
            None
            if None in keys.values()
            else f"{keys} {self._weights} {self._upsample} {self._max_repeats} {self._size} {self._seed}"
        )

    def _counts(self, sizes: Mapping[str, int]) -> Mapping[str, int]:
        """The number of training examples of each source, given how many it has."""
        for name, size in sizes.items():
            if not size:
                raise DataError(f"{name} ({self._sources[name].name}) has no training examples; leave it out.")
        if self._weights is None:
            return sizes
        totals = [size / self._weights[name] for name, size in sizes.items()]
        per_weight = max(totals) if self._upsample else min(totals)
        if self._size is not None:
            per_weight = self._size / sum(self._weights.values())
        counts = {name: max(1, round(per_weight * self._weights[name])) for name in sizes}
        for name, size in sizes.items():
            if counts[name] > size * self._max_repeats:
                raise DataError(
                    f"data.weights would use each of the {size:,} examples of {name} {counts[name] / size:.1f} times; "
                    f"lower its weight, raise data.max_repeats (it is {self._max_repeats}), or set data.upsample=false."
                )
        return counts


def _sample(indices: NDArray[np.int64], count: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Take each index as often as `count` allows, and a random sample of them once more; (count,) int64."""
    whole, rest = divmod(count, len(indices))
    return np.concatenate([np.tile(indices, whole), indices[rng.permutation(len(indices))[:rest]]])
