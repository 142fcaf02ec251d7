"""Several processes train together on the rows that one process with as large batches trains on."""

import json
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from data import DataError
from data.module import SFTDataModule
from data.preference_module import PreferenceDataModule
from data.sources import FileSource
from data.streaming_module import StreamingDataModule
from resonance.chat_template import ChatTemplate

TEMPLATE = ChatTemplate.named("chatml")
STREAM: dict[str, Any] = {"buffer": 80, "validation": "first", "validation_size": 5}
KINDS = ("sft", "streamed", "pairs", "votes")


def made(path: Path, kind: str, rank: int, processes: int, batch_size: int) -> SFTDataModule:
    """The data of one of the processes, one example in each row."""
    settings: dict[str, Any] = {"context_length": 64, "batch_size": batch_size, "seed": 5}
    source = FileSource(str(path), train=0.9, validation=0.1, test=0, streaming=kind == "streamed", stream=STREAM)
    if kind == "streamed":
        data = StreamingDataModule(source, source.stream(), TEMPLATE, packing=False, row_length=None, **settings)
    elif kind == "sft":
        data = SFTDataModule(source, TEMPLATE, packing=False, **settings)
    else:
        data = PreferenceDataModule(source, TEMPLATE, kind, **settings)
    data._process = lambda: (rank, processes)  # pyright: ignore[reportPrivateUsage]  # as torch.distributed tells it
    return data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """So many examples, of all lengths, that not all are sorted by length together."""
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"{i}?", "chosen": "yes " * (i * 7 % 23 + 1), "rejected": "no " * (i % 19 + 1)} for i in range(200)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_processes_train_on_the_rows_of_one(path: Path, kind: str) -> None:
    def trained(rank: int, processes: int, batch_size: int) -> list[set[tuple[int, ...]]]:
        batches = islice(made(path, kind, rank, processes, batch_size).train_dataloader(), 40)
        return [
            set(map(tuple, (row[: row.nonzero().max() + 1].tolist() for row in batch["input_ids"])))
            for batch in batches
        ]

    of_ranks = [trained(rank, 2, 1) for rank in range(2)]
    assert [a | b for a, b in zip(*of_ranks, strict=True)] == trained(0, 1, 2)


def test_a_state_of_rows_that_were_sorted_otherwise_is_refused(path: Path) -> None:
    loader = made(path, "pairs", 0, 2, 1).train_dataloader()
    state = deepcopy(loader.state_dict())
    loader.load_state_dict(state)
    del state["settings"]["sorted_together"]  # of a version that sorted each process's rows
    with pytest.raises(DataError, match="sorted_together was 32 and is 64"):
        loader.load_state_dict(state)
    alone = made(path, "pairs", 0, 1, 2).train_dataloader()
    state = deepcopy(alone.state_dict())
    del state["settings"]["sorted_together"]
    alone.load_state_dict(state)
