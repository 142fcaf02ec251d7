"""Rows and batches contain every example exactly once, and depend on lengths, seed and epoch alone."""

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import DataError
from data.packing import count_batches, deal, group_by_length, pack

ROW = 64
lengths_of = st.lists(st.integers(1, ROW), max_size=200)


@given(lengths=lengths_of, seed=st.text(max_size=4))
def test_packing_loses_none_repeats_none_and_overfills_none(lengths, seed):
    rows = pack(lengths, ROW, seed)
    assert sorted(chain.from_iterable(rows)) == list(range(len(lengths)))
    assert all(row and sum(lengths[i] for i in row) <= ROW for row in rows)


@given(lengths=lengths_of)
def test_the_number_of_rows_is_the_same_in_every_epoch(lengths):
    assert len({len(pack(lengths, ROW, f"0/{epoch}")) for epoch in range(4)}) == 1


def test_packing_is_a_function_of_the_seed():
    lengths = [i % 40 + 1 for i in range(300)]
    assert pack(lengths, ROW, "0/1") == pack(lengths, ROW, "0/1") != pack(lengths, ROW, "0/2")


def test_rows_are_nearly_full_when_examples_are_short():
    lengths = [i % 40 + 10 for i in range(2_000)]
    rows = pack(lengths, 512, "0")
    assert sum(lengths) / (len(rows) * 512) > 0.95


def test_an_example_longer_than_a_row_is_refused():
    with pytest.raises(DataError, match="65 tokens does not fit into rows of 64"):
        pack([3, 65], ROW, "0")


@given(lengths=lengths_of, batch_size=st.integers(1, 9), seed=st.text(max_size=4))
def test_grouping_by_length_loses_none_and_repeats_none(lengths, batch_size, seed):
    rows = group_by_length(lengths, batch_size, seed)
    assert sorted(rows) == [(i,) for i in range(len(lengths))]


def test_grouping_by_length_saves_most_of_the_padding():
    lengths = [(i * 37) % 100 + 1 for i in range(1_000)]

    def padded(rows):
        return sum(len(batch) * max(lengths[i] for (i,) in batch) for batch in deal(rows, 8, "0"))

    assert padded(group_by_length(lengths, 8, "0")) < 1.1 * sum(lengths)
    assert padded([(i,) for i in range(1_000)]) > 1.5 * sum(lengths)


@settings(max_examples=200)
@given(
    count=st.integers(0, 80),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 5),
    seed=st.text(max_size=4),
)
def test_processes_share_every_row_once_and_get_equally_many_batches(count, batch_size, world_size, seed):
    rows = [(i,) for i in range(count)]
    shares = [deal(rows, batch_size, seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(row for share in shares for batch in share for row in batch) == rows
    assert {len(share) for share in shares} == {count_batches(count, batch_size, world_size)}
    sizes = [len(batch) for share in shares for batch in share]
    if sizes:
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
