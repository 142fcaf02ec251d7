"""Rows and batches contain every example exactly once, and depend on lengths, seed and epoch alone."""

import hashlib
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import DataError
from data.packing import Batches, count_batches, group_by_length, pack

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
    assert list(pack(lengths, ROW, "0/1")) == list(pack(lengths, ROW, "0/1")) != list(pack(lengths, ROW, "0/2"))


def skewed_lengths(count, row_length):
    """Lengths as instruction data has them: many short ones, some as long as a row."""
    draws = np.random.RandomState(3).lognormal(np.log(row_length / 3), 0.8, count)
    return np.clip(draws.astype(int), 8, row_length)


def token_counts(rows, lengths):
    return np.array([lengths[list(row)].sum() for row in rows])


@pytest.mark.parametrize("row_length", [256, 1024])
def test_rows_are_nearly_full(row_length):
    lengths = skewed_lengths(5_000, row_length)
    rows = pack(lengths, row_length, "0")
    assert lengths.sum() / (len(rows) * row_length) > 0.98
    assert np.quantile(token_counts(rows, lengths), 0.05) > 0.9 * row_length


def test_examples_of_which_no_two_share_a_row_take_one_each():
    lengths = [33 + i % 32 for i in range(100)]
    assert len(pack(lengths, ROW, "0")) == 100


def test_rows_hold_long_and_short_examples_where_all_are_short():
    lengths = np.arange(4_000) % 100 + 10
    rows = pack(lengths, 1024, "0")
    means = np.array([lengths[list(row)].mean() for row in rows])
    assert means.std() < 0.2 * lengths.std()


def test_the_lengths_of_examples_tell_nothing_about_when_they_are_trained_on():
    lengths = skewed_lengths(5_000, 512)
    means = [lengths[list(row)].mean() for row in pack(lengths, 512, "0")]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.1


def test_the_partners_of_an_example_change_with_the_epoch():
    lengths = skewed_lengths(1_000, 512)

    def partners(epoch):
        return next(set(row) for row in pack(lengths, 512, f"0/{epoch}") if 7 in row)

    assert len(set.intersection(*map(partners, range(5)))) == 1 < len(partners(0))


def test_packing_is_the_same_on_every_machine():
    rows = pack([i * i % 61 + 1 for i in range(300)], ROW, "0/1")
    digest = hashlib.sha256(str(list(rows)).encode()).hexdigest()
    assert digest[:16] == "c3b18f9bfe00874b"


def test_an_example_longer_than_a_row_is_refused():
    with pytest.raises(DataError, match="65 tokens does not fit into rows of 64"):
        pack([3, 65], ROW, "0")


@given(lengths=lengths_of, batch_size=st.integers(1, 9), seed=st.text(max_size=4))
def test_grouping_by_length_loses_none_and_repeats_none(lengths, batch_size, seed):
    rows = group_by_length(lengths, batch_size, seed)
    assert sorted(rows) == [(i,) for i in range(len(lengths))]


def test_batches_can_be_sliced_and_counted_from_the_end():
    batches = Batches([(i,) for i in range(20)], 3, "0")
    assert list(batches) == list(batches[:]) == [*batches[:4], *batches[4:]]
    assert batches[-1] == list(batches)[-1]
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_grouping_by_length_saves_most_of_the_padding():
    lengths = [(i * 37) % 100 + 1 for i in range(1_000)]

    def padded(rows):
        return sum(len(batch) * max(lengths[i] for (i,) in batch) for batch in Batches(rows, 8, "0"))

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
    shares = [Batches(rows, batch_size, seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(row for share in shares for batch in share for row in batch) == rows
    assert {len(share) for share in shares} == {count_batches(count, batch_size, world_size)}
    sizes = [len(batch) for share in shares for batch in share]
    if sizes:
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
