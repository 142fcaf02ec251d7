"""Which examples stand in which row of which batch: a pure function of lengths, seed and epoch.

Knows lengths only. The number of rows and of batches is the same in every epoch, so that an epoch's length is
known in advance; only the composition changes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from data import DataError

RowPlan: TypeAlias = tuple[int, ...]  # indices of the examples in a row
BatchPlan: TypeAlias = tuple[RowPlan, ...]

# How many batches' worth of examples are sorted by length together: long enough for batches with little padding,
# short enough that an epoch stays well mixed.
_GROUPED_BATCHES = 32


def pack(lengths: Sequence[int], row_length: int, seed: str) -> list[RowPlan]:
    """Spread examples over as few rows of `row_length` tokens as will hold them, each exactly once.

    Worst-fit decreasing: the longest example first, always into the row with the most room, ties at random. All
    rows come out about equally full, with long and short examples mixed, and how many there are depends on the
    lengths alone.

    Raises:
        DataError: an example is longer than a row.
    """
    if not lengths:
        return []
    longest = max(lengths)
    if longest > row_length:
        raise DataError(f"An example of {longest} tokens does not fit into rows of {row_length}; make them longer.")
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    order.sort(key=lambda i: -lengths[i])  # stable: equal lengths stay shuffled
    count = -(-sum(lengths) // row_length)
    while (rows := _spread(order, lengths, row_length, count, rng)) is None:
        count += max(1, count // 100)
    rng.shuffle(rows)
    return rows


def _spread(
    order: Sequence[int], lengths: Sequence[int], row_length: int, count: int, rng: random.Random
) -> list[RowPlan] | None:
    """Worst fit into `count` rows; None when an example finds no room."""
    rows: list[list[int]] = [[] for _ in range(count)]
    # (tokens used, random tie-breaker, row); the emptiest row is at the top.
    heap = [(0, rng.random(), row) for row in range(count)]
    heapq.heapify(heap)
    for i in order:
        used, _, row = heap[0]
        if used + lengths[i] > row_length:
            return None
        rows[row].append(i)
        heapq.heapreplace(heap, (used + lengths[i], rng.random(), row))
    return [tuple(row) for row in rows if row]


def group_by_length(lengths: Sequence[int], batch_size: int, seed: str) -> list[RowPlan]:
    """One example a row, shuffled, but such that neighbours have similar lengths and share little padding."""
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    window = batch_size * _GROUPED_BATCHES
    for start in range(0, len(order), window):
        order[start : start + window] = sorted(order[start : start + window], key=lambda i: lengths[i])
    return [(i,) for i in order]


def count_batches(rows: int, batch_size: int, world_size: int = 1) -> int:
    """How many batches each of `world_size` processes gets in an epoch."""
    return -(-rows // (batch_size * world_size))


def deal(rows: Sequence[RowPlan], batch_size: int, seed: str, *, rank: int = 0, world_size: int = 1) -> list[BatchPlan]:
    """The batches of one of `world_size` processes, in training order; together they hold every row once.

    Rows that stand together stay together; sizes of batches differ by at most one, and every process gets the
    same number of them. Where there are fewer rows than batches, some batches are empty.
    """
    if not rows:
        return []
    steps = count_batches(len(rows), batch_size, world_size)
    ends = [len(rows) * i // (steps * world_size) for i in range(steps * world_size + 1)]
    batches = [tuple(rows[start:end]) for start, end in pairwise(ends)]
    order = list(range(steps))
    random.Random(seed).shuffle(order)
    return [batches[step * world_size + rank] for step in order]
