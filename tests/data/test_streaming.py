"""Streamed training data: splits, blocks, order, disjoint rows, and resuming from a saved position."""

import json
import threading
import tracemalloc
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data import DataError
from data.sources import FileSource, HubSource
from data.streaming_module import StreamingDataModule
from resonance.chat_template import ChatTemplate

TEMPLATE = ChatTemplate.named("chatml")
STREAM = {"buffer": 40, "validation": "share", "validation_size": 5}


def row(i: int) -> dict[str, str]:
    return {"instruction": f"What is {i} and one?", "output": f"It is {i + 1}. " * (i % 5 + 1)}


def write(path: Path, numbers: range) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row(i) for i in numbers]), path, row_group_size=23)
    else:
        path.write_text("".join(json.dumps(row(i)) + "\n" for i in numbers))
    return path


def source(path: object, **changes: object) -> FileSource:
    return FileSource(str(path), **{"streaming": True, "stream": STREAM, **changes})  # pyright: ignore[reportArgumentType]  # of any type


def module(source, rank=0, world_size=1, **changes) -> StreamingDataModule:
    settings = {"context_length": 64, "batch_size": 3, "row_length": 96, "seed": 5} | changes
    data = StreamingDataModule(source, source.stream(), TEMPLATE, **settings)
    if world_size > 1:
        data._process = lambda: (rank, world_size)
    return data


def questions(batch) -> list[str]:
    """The number that each example of a batch asks about."""
    found = []
    for ids, owners in zip(batch["input_ids"], batch["document_ids"], strict=True):
        for document in owners.unique().tolist():
            if document >= 0:
                found.append(TEMPLATE.tokenizer.decode(ids[owners == document].tolist()).split()[3])
    return found


def first_epoch(data: StreamingDataModule) -> list[str]:
    seen: list[str] = []
    for number, batch in enumerate(data.train_dataloader()):
        if data.epoch_of(number) > 0:
            return seen
        seen += questions(batch)
    raise AssertionError


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", range(200))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_epoch_holds_each_training_example_once_and_no_held_out_one(tmp_path, suffix):
    streamed = source(write(tmp_path / f"rows{suffix}", range(200)))
    splits = streamed.splits()
    held = [example.prompt[0].content.split()[2] for example in (*splits.validation, *splits.test)]
    seen = first_epoch(module(streamed))
    assert len(seen) == len(set(seen)) and not set(seen) & set(held)
    assert 160 < len(seen) < 180  # 85%
    assert len(splits.validation) == len(splits.test) == 5


def test_epochs_differ_and_the_same_seed_repeats_them(jsonl):
    one, two = (list(islice(module(source(jsonl)).train_dataloader(), 90)) for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(one, two, strict=True) for name in a)
    other = list(islice(module(source(jsonl), seed=6).train_dataloader(), 90))
    assert [questions(batch) for batch in other] != [questions(batch) for batch in one]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("trained", [0, 1, 7, 13, 41])
def test_a_saved_position_continues_bit_for_bit(tmp_path, suffix, trained):
    write(tmp_path / f"a{suffix}", range(70))
    write(tmp_path / f"b{suffix}", range(70, 150))
    streamed = source(tmp_path / f"*{suffix}")
    whole = list(islice(module(streamed).train_dataloader(), trained + 60))
    before = module(streamed)
    loader = before.train_dataloader()
    list(islice(loader, trained))
    state = json.loads(json.dumps(loader.state_dict()))
    after = module(streamed).train_dataloader()
    after.load_state_dict(state)
    for a, b in zip(whole[trained:], islice(after, 60), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_resumed_stream_reads_only_from_the_saved_block_on(jsonl):
    loader = module(source(jsonl)).train_dataloader()
    list(islice(loader, 16))
    state = loader.state_dict()
    text = jsonl.read_bytes()
    offset = state["block"]["rows"]["offset"]
    assert 0 < offset < len(text)
    after = module(source(jsonl))
    after.setup()
    jsonl.write_bytes(b"x" * offset + text[offset:])  # what was read is not read again
    resumed = after.train_dataloader()
    resumed.load_state_dict(state)
    assert len(questions(next(iter(resumed)))) > 0


def test_processes_get_disjoint_rows_which_are_those_of_one_process(jsonl):
    one = [sorted(questions(batch)) for batch in islice(module(source(jsonl), batch_size=4).train_dataloader(), 20)]
    ranks = [
        [questions(batch) for batch in islice(module(source(jsonl), rank, 2, batch_size=2).train_dataloader(), 20)]
        for rank in range(2)
    ]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == one
    assert not any(set(a) & set(b) for a, b in zip(*ranks, strict=True))


def test_validation_is_the_first_rows_or_a_file_and_training_skips_its_prompts(jsonl, tmp_path):
    first = source(jsonl, stream={**STREAM, "validation": "first"}, test=0.0, train=0.95)
    held = [example.row for example in first.splits().validation]
    assert held == [1, 2, 3, 4, 5]
    assert not {"0", "1", "2", "3", "4"} & set(first_epoch(module(first)))
    other = write(tmp_path / "other.jsonl", range(50, 52))
    by_file = source(jsonl, stream={**STREAM, "validation": str(other)}, test=0.0, train=0.95)
    assert len(by_file.splits().validation) == 2
    seen = first_epoch(module(by_file))
    assert not {"50", "51"} & set(seen) and len(seen) == 198


def test_rows_are_filled_by_best_fit(jsonl):
    report = module(source(jsonl)).report
    assert report.filled > 0.8
    assert "streamed while training" in str(report)


def test_memory_does_not_grow_with_the_data(tmp_path):
    def peak(count: int) -> int:
        data = module(source(write(tmp_path / f"{count}.jsonl", range(count)), stream={**STREAM, "buffer": 200}))
        data.setup()
        tracemalloc.start()
        batches = 0
        for batches, _ in enumerate(data.train_dataloader()):
            if data.epoch_of(batches) > 0:
                break
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert batches > count // 40
        return size

    assert peak(2400) < 1.3 * peak(400)


def test_a_hub_data_set_streams_and_resumes(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for shard in range(3):
        write(folder / f"train-{shard}.jsonl", range(shard * 50, shard * 50 + 50))
    hub = HubSource(str(folder), streaming=True, stream=STREAM)
    whole = list(islice(module(hub).train_dataloader(), 40))
    loader = module(hub).train_dataloader()
    list(islice(loader, 14))
    after = module(HubSource(str(folder), streaming=True, stream=STREAM)).train_dataloader()
    after.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    for a, b in zip(whole[14:], islice(after, 26), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    seen = first_epoch(module(hub))
    assert len(seen) == len(set(seen)) > 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deduplicate": "exact"}, "data.deduplicate"),
        ({"leakage": "refuse", "stream": {"validation": "first"}}, "data.leakage"),
        ({"stream": {"buffers": 3}}, "data.stream.buffers"),
        ({"stream": {"buffer": 1}}, "data.stream.buffer"),
        ({"streaming": "yes"}, "data.streaming"),
    ],
)
def test_what_a_stream_cannot_hold_is_refused_by_name(jsonl, changes, message):
    with pytest.raises(DataError, match=message):
        source(jsonl, **changes)


def test_files_that_cannot_be_read_from_a_position_on_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("instruction,output\na,b\n")
    with pytest.raises(DataError, match=r"a.csv cannot be streamed"):
        source(tmp_path / "a.csv").stream()
    (tmp_path / "list.json").write_text(json.dumps([row(1)]))
    with pytest.raises(DataError, match="JSON list cannot be streamed"):
        source(tmp_path / "list.json").splits()
    with pytest.raises(DataError, match="There is no file"):
        source(tmp_path / "none*.jsonl").stream()
    with pytest.raises(DataError, match=r"bad.jsonl, line 2: this is no JSON"):
        (tmp_path / "bad.jsonl").write_text(json.dumps(row(1)) + "\n{\n")
        source(tmp_path / "bad.jsonl").splits()


def test_the_training_examples_cannot_be_read_as_a_list(jsonl):
    with pytest.raises(DataError, match="only training reads them"):
        list(source(jsonl).splits().train)
    with pytest.raises(DataError, match="part of a mixture"):
        source(jsonl).write(lambda example: None)


def test_the_reading_thread_ends_with_the_iterator(jsonl):
    iterator = iter(module(source(jsonl)).train_dataloader())
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("data_")]


def test_a_state_of_other_data_or_without_streaming_is_refused(jsonl):
    loader = module(source(jsonl)).train_dataloader()
    state = loader.state_dict()
    with pytest.raises(DataError, match="buffer was 40 and is 50"):
        module(source(jsonl, stream={**STREAM, "buffer": 50})).train_dataloader().load_state_dict(state)
    with pytest.raises(DataError, match="was not streamed"):
        loader.load_state_dict({"trained": 1, "settings": {}})
