"""Assigns examples to rows and batches, as a pure function of lengths, seed and epoch.

Knows lengths only. The numbers of rows and of batches are the same in every epoch; only their composition changes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data import DataError

RowPlan: TypeAlias = tuple[int, ...]  # indices of the examples in a row
BatchPlan: TypeAlias = tuple[RowPlan, ...]

# Batches of examples that are sorted by length together: enough for little padding, few enough for a well-mixed epoch.
GROUPED_BATCHES = 32
_MORE_ROWS = 0.01  # than the fewest possible, at most, so that examples of different lengths share rows


class Rows(Sequence[RowPlan]):
    """The rows of an epoch, in two arrays: millions of tuples would take far more memory.

    examples: (n,) int64, the indices of the examples, row by row. ends: (rows,) int64, where each row ends in it.
    """

    def __init__(self, examples: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self.examples, self.ends = examples, ends

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> RowPlan: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RowPlan]: ...
    def __getitem__(self, index: int | slice) -> RowPlan | Sequence[RowPlan]:
        """Return a row, or a tuple of rows."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        row = range(len(self))[index]
        start = int(self.ends[row - 1]) if row else 0
        return tuple(self.examples[start : int(self.ends[row])].tolist())


def pack(lengths: ArrayLike, row_length: int, seed: str) -> Rows:
    """Pack each example once into hardly more rows of `row_length` tokens than necessary, in random order.

    Best-fit decreasing, the longest example first and always into the fullest row that has space for it, makes almost
    the fewest rows. But it gives a row examples of similar lengths, and often of similar contents. So the shorter ones
    are packed worst-fit, always into the emptiest row, as far as the rows suffice.

    Raises:
        DataError: an example is longer than a row.
    """
    tokens = np.asarray(lengths, np.int64)
    longest = int(tokens.max(initial=0))
    if longest > row_length:
        raise DataError(f"An example of {longest} tokens does not fit into rows of {row_length}; make them longer.")
    # RandomState's numbers are the same in every version of NumPy.
    rng = np.random.RandomState(np.frombuffer(hashlib.sha256(seed.encode()).digest(), np.uint32))
    shuffled = rng.permutation(len(tokens))
    order = shuffled[np.argsort(-tokens[shuffled], kind="stable")]  # equal lengths stay shuffled
    counts = np.bincount(tokens, minlength=row_length + 1).tolist()
    row_of, row_count = _best_fit(counts, row_length)
    attempts = [(row_count, row_length + 1)]  # rows, and the length from which on the fit is the best
    while attempts[-1][1] > 1:
        attempts.append((int(row_count * (1 + _MORE_ROWS)), attempts[-1][1] // 2))
    for more_rows, best_fit_from in attempts:
        mixed = _best_then_worst_fit(counts, row_length, more_rows, best_fit_from, rng)
        if mixed is not None:
            row_of, row_count = mixed, more_rows
            break
    row_of = rng.permutation(row_count)[row_of]
    by_row = np.argsort(row_of, kind="stable")
    return Rows(order[by_row], np.cumsum(np.bincount(row_of, minlength=row_count)))


class _OpenRows:
    """Rows by the number of tokens that they have space for. Rows with equal space are interchangeable."""

    def __init__(self, row_length: int) -> None:
        self.count = 0
        self._row_length = row_length
        self._by_space: list[list[int]] = [[] for _ in range(row_length + 1)]
        self._spaces = 0  # bit n is set where a row has space for n tokens

    def open(self, count: int) -> None:
        """Add empty rows."""
        self.put(range(self.count, self.count + count), self._row_length)
        self.count += count

    def put(self, rows: Sequence[int], space: int) -> None:
        """Add rows that have this space."""
        self._by_space[space] += rows
        self._spaces |= 1 << space

    def take(self, space: int, count: int, start: int = 0) -> list[int]:
        """Remove and return up to `count` rows that have this space; `start` selects among more."""
        rows = self._by_space[space]
        start = start % (len(rows) - count + 1) if count < len(rows) else 0
        taken = rows[start : start + count]
        del rows[start : start + count]
        if not rows:
            self._spaces &= ~(1 << space)
        return taken

    def least_space(self, at_least: int) -> int | None:
        """Return the space of the fullest rows that have space for `at_least` tokens; None without such rows."""
        found = self._spaces >> at_least
        return at_least + (found & -found).bit_length() - 1 if found else None

    def most_space(self) -> int:
        """Return the space of the emptiest rows; -1 without rows."""
        return self._spaces.bit_length() - 1


def _best_fit(counts: Sequence[int], row_length: int) -> tuple[NDArray[np.int64], int]:
    """Pack best-fit decreasing; return each example's row, the longest example's first, and the number of rows."""
    rows, placed = _OpenRows(row_length), _Placed(sum(counts))
    for length in range(row_length, 0, -1):
        _place_best_fit(rows, placed, length, counts[length], row_length)
    return placed.row_of, rows.count


def _best_then_worst_fit(
    counts: Sequence[int], row_length: int, row_count: int, best_fit_from: int, rng: np.random.RandomState
) -> NDArray[np.int64] | None:
    """Pack best-fit down to `best_fit_from` tokens, the rest worst-fit; None where the rows are too few or too many."""
    rows, placed = _OpenRows(row_length), _Placed(sum(counts))
    for length in range(row_length, best_fit_from - 1, -1):
        _place_best_fit(rows, placed, length, counts[length], row_length)
    rows.open(row_count - rows.count)
    for length in range(min(row_length, best_fit_from - 1), 0, -1):
        left = counts[length]
        while left:
            space = rows.most_space()
            if space < length:
                return None
            taken = rows.take(space, left, start=int(rng.randint(1 << 30, dtype=np.int64)))
            placed.add(taken)
            rows.put(taken, space - length)
            left -= len(taken)
    return None if rows.most_space() == row_length else placed.row_of  # no row stays empty


def _place_best_fit(rows: _OpenRows, placed: _Placed, length: int, count: int, row_length: int) -> None:
    """Place `count` examples of one length, many at a time: the fullest row stays it until it is too full."""
    while count:
        space = rows.least_space(length)
        if space is None:
            rows.open(-(-count // (row_length // length)))
            space = row_length
        each = min(count, space // length)
        taken = rows.take(space, count // each)
        placed.add(taken, each)
        rows.put(taken, space - each * length)
        count -= each * len(taken)


class _Placed:
    """The rows of the examples that are placed so far."""

    def __init__(self, count: int) -> None:
        self.row_of = np.empty(count, np.int64)
        self._count = 0

    def add(self, rows: Sequence[int], each: int = 1) -> None:
        """Place the next `each` examples in the first of these rows, as many in the second, and so on."""
        end = self._count + each * len(rows)
        self.row_of[self._count : end] = np.repeat(rows, each)
        self._count = end


def group_by_length(lengths: ArrayLike, batch_size: int, seed: str) -> Rows:
    """One example per row, shuffled such that neighbours have similar lengths and need little padding.

    `batch_size` counts the rows of a batch of all processes, so that the order does not depend on their number.
    """
    tokens = np.asarray(lengths, np.int64)
    rng = random.Random(seed)
    shuffled = list(range(len(tokens)))
    rng.shuffle(shuffled)
    order = np.array(shuffled, np.int64)
    window = batch_size * GROUPED_BATCHES
    for start in range(0, len(order), window):
        group = order[start : start + window]
        order[start : start + window] = group[np.argsort(tokens[group], kind="stable")]
    return Rows(order, np.arange(1, len(order) + 1))


def count_batches(rows: int, batch_size: int, world_size: int = 1) -> int:
    """The number of batches per epoch for each of `world_size` processes."""
    return -(-rows // (batch_size * world_size))


class Batches(Sequence[BatchPlan]):
    """An epoch's batches of process `rank`, in training order; all processes together use each row once.

    Adjacent rows share a batch. Batch sizes differ by at most one, and every process gets the same number of batches.
    With fewer rows than batches, some batches are empty. `parts` batches of each process follow one another like the
    one batch of a process with `parts` times their size; the rows of all processes together do not depend on `parts`.
    """

    def __init__(
        self,
        rows: Sequence[RowPlan],
        batch_size: int,
        seed: str,
        *,
        rank: int = 0,
        world_size: int = 1,
        parts: int = 1,
    ) -> None:
        self._rows, self._rank, self._world_size, self._parts = rows, rank, world_size, parts
        self._order = list(range(count_batches(len(rows), batch_size, world_size * parts)))
        random.Random(seed).shuffle(self._order)

    def __len__(self) -> int:
        return len(self._order) * self._parts

    @overload
    def __getitem__(self, index: int) -> BatchPlan: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BatchPlan]: ...
    def __getitem__(self, index: int | slice) -> BatchPlan | Sequence[BatchPlan]:
        """Return a batch, or a tuple of batches."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        together, part = divmod(range(len(self))[index], self._parts)
        shares = self._world_size * self._parts
        number = self._order[together] * shares + self._rank * self._parts + part
        start, end = (len(self._rows) * i // (len(self._order) * shares) for i in (number, number + 1))
        return tuple(self._rows[start:end])


@dataclass(frozen=True, slots=True)
class Shares:
    """How processes share the rows that they train on at once: `parts` batches of `batch_size` rows for each."""

    batch_size: int
    world_size: int
    parts: int = 1

    @property
    def rows(self) -> int:
        """The rows that all processes train on before the next ones."""
        return self.batch_size * self.parts * self.world_size


def share(rows: int, batch_size: int, world_size: int, *, in_parts: bool = True) -> Shares:
    """The shares of `rows` rows in as few parts as batches of at most `batch_size` rows allow; one unless `in_parts`.

    Raises:
        DataError: the processes cannot have equal shares.
    """
    if rows % world_size:
        fitting = [str(number) for number in range(1, rows + 1) if rows % number == 0]
        raise DataError(
            f"The run trains on {rows} rows at once, which {world_size} processes cannot share equally; go on with "
            f"{' or '.join(filter(None, [', '.join(fitting[:-1]), fitting[-1]]))}."
        )
    each = rows // world_size
    parts = -(-each // batch_size) if in_parts else 1
    while each % parts:
        parts += 1
    return Shares(each // parts, world_size, parts)
