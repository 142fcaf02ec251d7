"""Files of all kinds give the same examples, splits are reproducible, and errors are one sentence."""

import csv
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data import DataError
from data.example import Example, Splits
from data.sources import BasicsSource, FileSource, HubSource, Source, cache_key, write_examples
from resonance.chat_template import Message

ROWS = [{"instruction": f"Question {i}?", "input": "NA" if i % 3 == 0 else "", "output": f"00{i}"} for i in range(40)]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what `datasets` caches out of the home folder."""
    import datasets

    cache = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    yield
    datasets.config.HF_DATASETS_CACHE = cache


def write(path, rows=ROWS):
    match path.suffix:
        case ".json":
            path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".csv" | ".tsv":
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_kind_of_file_gives_the_same_examples(tmp_path, suffix):
    splits = FileSource(write(tmp_path / f"data{suffix}"), shuffle=False).splits()
    assert (len(splits.train), len(splits.test), len(splits.validation)) == (34, 4, 2)
    assert splits.train[0].messages[0].context == "NA"
    assert splits.train[1].messages[0].context is None
    assert [example.answer for example in (*splits.train, *splits.test, *splits.validation)] == [
        row["output"] for row in ROWS
    ]


def test_a_file_that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "data.jsonl"
    before = FileSource(write(path)).fingerprint()
    after = FileSource(write(path, ROWS[:-1])).fingerprint()
    assert before != after


def test_the_split_is_a_function_of_the_seed_and_loses_no_row(tmp_path):
    path = write(tmp_path / "data.json")
    one, same, other = (FileSource(path, seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    splits = one.splits()
    answers = [example.answer for example in (*splits.train, *splits.test, *splits.validation)]
    assert sorted(answers) == sorted(row["output"] for row in ROWS)


def test_the_books_set_is_split_in_its_order(shared_data):
    splits = FileSource(str(shared_data / "instruction-data.json"), shuffle=False).splits()
    rows = json.loads((shared_data / "instruction-data.json").read_text(encoding="utf-8"))
    assert (len(splits.train), len(splits.test), len(splits.validation)) == (935, 110, 55)
    assert splits.train[0].answer == rows[0]["output"]
    assert splits.test[0].answer == rows[935]["output"]
    assert splits.validation[-1].answer == rows[-1]["output"]


def test_a_file_behind_a_url_is_downloaded(tmp_path):
    write(tmp_path / "data.json")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        splits = FileSource(f"http://127.0.0.1:{server.server_port}/data.json").splits()
        server.shutdown()
    assert len(splits.train) == 34


def test_a_url_that_cannot_be_reached_is_told_with_the_way_out():
    with pytest.raises(DataError, match=r"could not be loaded .* data\.path=FILE"):
        FileSource("http://127.0.0.1:9/data.json").splits()


def test_a_hub_data_set_is_loaded_and_split(tmp_path):
    folder = tmp_path / "dolly"
    folder.mkdir()
    write(folder / "train.jsonl", [{"instruction": f"Q{i}", "context": "", "response": f"A{i}"} for i in range(100)])
    splits = HubSource(str(folder)).splits()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (95, 2, 3)


def test_a_hub_that_cannot_be_reached_is_told_with_the_way_out(tmp_path):
    code = (
        "from data.sources import HubSource\n"
        "from data import DataError\n"
        "try: HubSource('tatsu-lab/alpaca').splits()\n"
        "except DataError as error: print(error)\n"
    )
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    message = subprocess.run(
        [sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True
    ).stdout
    assert message.startswith("tatsu-lab/alpaca could not be loaded")
    assert "data=json data.path=FILE" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.txt", b"hello", "no kind of file"),
        ("data.json", b'[{"instruction": "a", ', "row 1 (line 1): this is no JSON (it ends in the middle of a row)"),
        ("data.json", b'[{"a": 1},\n{"a": 2}\n{"a": 3}]', "row 3 (line 3): this is no JSON (Expecting ',' delimiter"),
        ("data.json", b'[{"instruction": "a", "output": "b"}, 7]', "row 2: this is 7; a row must be an object"),
        ("data.json", b'{\n"rows": []\n}', "one object with the keys 'rows'; wanted is a list of rows"),
        ("data.json", b'"hello"', "line 1: this is 'hello'; a row must be an object"),
        ("data.json", b"[]", "has no rows"),
        ("data.json", b" \n", "is empty"),
        (
            "data.jsonl",
            b'{"instruction": "a", "output": "b"}\n\n{"instruction": "a"',
            "line 3: this is no JSON (it ends",
        ),
        ("data.jsonl", b'{"instruction": "a"}\n{oops}\n{"instruction": "a"}\n', "line 2: this is no JSON (Expecting"),
        ("data.jsonl", b'{"question": "a", "reply": "b"}\n', "has the columns question, reply"),
        (
            "data.jsonl",
            '{"prompt": "a"}\n{"prompt": "caf\xe9"}\n'.encode("latin-1"),
            "line 2: the byte 0xe9 is not UTF-8",
        ),
        ("data.jsonl", '{"prompt": "a"}\n'.encode("utf-16"), "is UTF-16, not UTF-8"),
        ("data.jsonl", '{"prompt": "a"}\n'.encode("utf-16-le"), "line 1: there is a zero byte"),
        ("data.csv", b"instruction,output\n", "has no rows"),
        ("data.csv", b"", "is empty"),
        ("data.csv", b"instruction;output\na;b\n", "has the columns instruction;output; wanted"),
        ("data.csv", b"instruction,output\na,b\na,b,c\n", "row 2 (line 3): there are more cells than"),
        ("data.csv", b'instruction,output\na,"b\n', "row 1: this is no CSV (unexpected end"),
        ("data.csv", b"output,output\na,b\n", "has the column 'output' twice"),
        ("data.parquet", b"hello", "is no Parquet file: it begins with b'hello'"),
        ("data.parquet", b"PAR1" + b"hello" * 20, "is no whole Parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        FileSource(str(path)).splits()
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    for name in ("data.json", "data.jsonl", "data.csv"):
        path = tmp_path / name
        write(path)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert len(FileSource(str(path)).splits().train) == 34


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match="is a folder; give the path of a file in it"):
        FileSource(str(tmp_path)).splits()


def test_rows_of_files_and_of_the_hub_are_told_by_their_numbers(tmp_path):
    rows = [{"instruction": f"Question {i}?", "response": None if i in (3, 50) else "Yes."} for i in range(1, 101)]
    (tmp_path / "hub").mkdir()
    for source in (HubSource(str(tmp_path / "hub")), FileSource(str(tmp_path / "hub" / "train.jsonl"))):
        write(tmp_path / "hub" / "train.jsonl", rows)
        splits = source.splits()
        assert splits.unusable == {"`response` is null": [3, 50]}
        assert all(example.messages[0].content == f"Question {example.row}?" for example in splits.train)


def test_a_missing_file_and_a_missing_path_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        FileSource(str(tmp_path / "nowhere.json")).splits()
    with pytest.raises(DataError, match=r"data\.path=FILE"):
        FileSource(None)


def test_shares_that_do_not_make_one_are_refused():
    with pytest.raises(DataError, match=r"add up to 1\.1"):
        FileSource("data.json", train=0.9, test=0.1, validation=0.1)


def test_basics_is_a_source_like_the_others():
    source = BasicsSource(train_size=100, test_size=50, validation_size=25, families=["sums", "plurals"])
    assert len(source.splits().train) == 100
    assert (
        source.fingerprint()
        == BasicsSource(train_size=100, test_size=50, validation_size=25, families=("sums", "plurals")).fingerprint()
    )


def repeated_rows(tmp_path: Path) -> Path:
    path = tmp_path / "repeated.jsonl"
    texts = ["One?", "one? ", "Two?", "One?", "Held out?", "Held out?"]
    path.write_text("\n".join(json.dumps({"prompt": text, "completion": "Yes."}) for text in texts))
    return path


@pytest.mark.parametrize(
    ("mode", "kept", "removed"),
    [(False, 5, None), ("exact", 4, [4]), ("normalised", 3, [2, 4])],
)
def test_repetitions_are_removed_from_training_only(tmp_path, mode, kept, removed):
    source = FileSource(
        str(repeated_rows(tmp_path)), train=5 / 6, validation=1 / 6, test=0, shuffle=False, deduplicate=mode
    )
    splits = source.splits()
    assert (len(splits.train), len(splits.validation)) == (kept, 1)
    assert splits.unusable.get("repeats an earlier training example") == removed


def test_what_is_cached_is_what_is_read_without_repetitions(tmp_path):
    def source(mode):
        return FileSource(
            str(repeated_rows(tmp_path)), train=1, validation=0, test=0, shuffle=True, seed=3, deduplicate=mode
        )

    written = []
    parts = write_examples(source("normalised"), written.append)
    assert [written[i] for i in parts.train.tolist()] == list(source("normalised").splits().train)
    assert parts.unusable == source("normalised").splits().unusable
    assert len({cache_key(source(mode)) for mode in (None, "exact", "normalised")}) == 3


def test_a_user_s_own_source_keeps_repetitions(tmp_path):
    class Own(Source):
        name = "own"

        def read(self):
            return Splits([Example((Message("user", "One?"), Message("assistant", "Yes."))) for _ in range(2)], [], [])

    assert len(Own().splits().train) == 2


@pytest.mark.parametrize("setting", [{"deduplicate": "fuzzy"}, {"deduplicate": True}, {"leakage": "keep"}])
def test_an_unknown_way_of_treating_duplicates_is_refused(setting):
    with pytest.raises(DataError, match=f"data.{next(iter(setting))} must be"):
        FileSource("rows.json", **setting)
