"""Assigns examples to rows and batches, as a pure function of lengths, seed and epoch.

Knows lengths only. The numbers of rows and of batches are the same in every epoch; only their composition changes.
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

# Batches of examples that are sorted by length together: enough for little padding, few enough for a well-mixed epoch.
_GROUPED_BATCHES = 32


def pack(lengths: Sequence[int], row_length: int, seed: str) -> list[RowPlan]:
    """Pack each example once into as few rows of `row_length` tokens as possible.

    Worst-fit decreasing: the longest example first, always into the emptiest row, ties at random. All rows are about
    equally full, with long and short examples mixed, and their number depends on the lengths alone.

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
    while (rows := _worst_fit(order, lengths, row_length, count, rng)) is None:
        count += max(1, count // 100)
    rng.shuffle(rows)
    return rows


def _worst_fit(
    order: Sequence[int], lengths: Sequence[int], row_length: int, count: int, rng: random.Random
) -> list[RowPlan] | None:
    """Pack into `count` rows; None if an example does not fit."""
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
    """One example per row, shuffled such that neighbours have similar lengths and need little padding."""
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    window = batch_size * _GROUPED_BATCHES
    for start in range(0, len(order), window):
        order[start : start + window] = sorted(order[start : start + window], key=lambda i: lengths[i])
    return [(i,) for i in order]


def count_batches(rows: int, batch_size: int, world_size: int = 1) -> int:
    """The number of batches per epoch for each of `world_size` processes."""
    return -(-rows // (batch_size * world_size))


def deal(rows: Sequence[RowPlan], batch_size: int, seed: str, *, rank: int = 0, world_size: int = 1) -> list[BatchPlan]:
    """The batches of process `rank`, in training order; all processes together use each row once.

    Adjacent rows share a batch. Batch sizes differ by at most one, and every process gets the same number of batches.
    With fewer rows than batches, some batches are empty.
    """
    if not rows:
        return []
    steps = count_batches(len(rows), batch_size, world_size)
    ends = [len(rows) * i // (steps * world_size) for i in range(steps * world_size + 1)]
    batches = [tuple(rows[start:end]) for start, end in pairwise(ends)]
    order = list(range(steps))
    random.Random(seed).shuffle(order)
    return [batches[step * world_size + rank] for step in order]
