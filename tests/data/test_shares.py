"""Other numbers of processes train on the same rows at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import DataError
from data.loader import TrainLoader
from data.packing import Batches, Shares, share


def rows_at_once(row_count: int, shares: Shares) -> list[list[int]]:
    """The rows of all processes' batches that belong together, in training order."""
    rows = [(number,) for number in range(row_count)]
    ranks = [
        Batches(rows, shares.batch_size, "0/0", rank=rank, world_size=shares.world_size, parts=shares.parts)
        for rank in range(shares.world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    together = [
        [row for batches in ranks for batch in batches[start : start + shares.parts] for (row,) in batch]
        for start in range(0, len(ranks[0]), shares.parts)
    ]
    return [sorted(part) for part in together]


@given(
    row_count=st.integers(1, 60),
    batch_size=st.integers(1, 6),
    before=st.integers(1, 4),
    now=st.integers(1, 4),
    in_parts=st.booleans(),
)
def test_any_number_of_processes_trains_on_the_same_rows_at_once_or_is_refused(
    row_count: int, batch_size: int, before: int, now: int, in_parts: bool
) -> None:
    first = Shares(batch_size, before)
    if first.rows % now:
        with pytest.raises(DataError, match=rf"{first.rows} rows at once, which {now} processes cannot share equally"):
            share(first.rows, batch_size, now)
        return
    second = share(first.rows, batch_size, now, in_parts=in_parts)
    assert second.rows == first.rows
    assert second.parts == 1 if not in_parts else second.batch_size <= batch_size
    assert rows_at_once(row_count, second) == rows_at_once(row_count, first)


def test_what_cannot_be_shared_says_which_numbers_of_processes_can() -> None:
    with pytest.raises(DataError, match="go on with 1, 2 or 4"):
        share(4, 2, 3)


def loader(shares: Shares, settings: dict[str, object]) -> TrainLoader:
    return TrainLoader(None, lambda _: [], 12, settings=settings, parts=shares.parts)  # pyright: ignore[reportArgumentType]  # a position needs no data


def test_a_position_is_counted_in_the_batches_of_the_present_processes() -> None:
    older: dict[str, object] = {"batch_size": 2, "processes": 2}  # before the rows were saved
    present = loader(Shares(2, 1, 2), {"batch_size": 2, "processes": 1, "rows": 4})
    present.load_state_dict({"trained": 3, "settings": older})
    assert present.state_dict()["trained"] == 6
    back = loader(Shares(2, 2), {"batch_size": 2, "processes": 2, "rows": 4})
    back.load_state_dict(present.state_dict())
    assert back.state_dict()["trained"] == 3
    with pytest.raises(DataError, match="rows was 4 and is 2"):
        loader(Shares(2, 1), {"batch_size": 2, "processes": 1, "rows": 2}).load_state_dict(present.state_dict())
