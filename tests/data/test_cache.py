"""Prepared data equals what is prepared in memory, is made once, and survives what may happen to it on the way."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import types
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from data import DataError, cache, parallel_tokenize
from data.cache import prepare
from data.example import Example, Splits
from data.mixture import MixedSource
from data.module import SFTDataModule
from data.sources import BasicsSource, FileSource, Source
from resonance.chat_template import ChatTemplate, Message

TEMPLATE = ChatTemplate.named("chatml")
CONTEXT = 128


@pytest.fixture
def file(tmp_path):
    """A file of 700 conversations: some empty, some repeated, some too long for the context."""
    rng, path = random.Random(0), tmp_path / "chats.jsonl"
    with path.open("w") as out:
        for i in range(700):
            question = f"What is {rng.randrange(350)} plus {i % 7}?"
            answer = "" if i % 101 == 0 else " ".join(rng.choices(["one", "two", "drei", "四"], k=rng.randrange(1, 90)))
            out.write(json.dumps({"prompt": question, "completion": answer if i % 211 else None}) + "\n")
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def get(source, folder, template=TEMPLATE, context_length=CONTEXT):
    return prepare(source, template, context_length, folder)


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def assert_equal(one, two):
    for split in ("train", "validation", "test"):
        ours, theirs = (list(getattr(prepared.splits, split)) for prepared in (one, two))
        assert [(example, example.row) for example in ours] == [(example, example.row) for example in theirs]
    assert one.splits.unusable == two.splits.unusable
    for name in ("train", "validation"):
        ours, theirs = getattr(one, name), getattr(two, name)
        for array in ("input_ids", "labels", "offsets", "indices", "token_ids"):
            np.testing.assert_array_equal(getattr(ours, array), getattr(theirs, array), strict=True)
        assert ours.report == theirs.report
    assert (one.fingerprint, one.held_out, one.duplicates) == (two.fingerprint, two.held_out, two.duplicates)


class NotReadAgain(FileSource):
    """A source that may tell its key, and must not be read."""

    def read(self):
        raise AssertionError("read again")

    write = read

    def cache_key(self):
        return FileSource.cache_key(self)


def test_prepared_data_equals_that_in_memory_and_is_mapped_the_second_time(file, folder, monkeypatch):
    in_memory = get(FileSource(str(file)), None)
    assert in_memory.held_out and in_memory.duplicates and in_memory.splits.unusable
    assert in_memory.train.report.cut and in_memory.train.report.skipped
    assert_equal(get(FileSource(str(file)), folder), in_memory)
    monkeypatch.setattr(FileSource, "write", NotReadAgain.write)
    assert_equal(get(FileSource(str(file)), folder), in_memory)
    assert len(entries(folder)) == 1


def test_several_processes_prepare_the_same_as_one(file, folder, monkeypatch):
    monkeypatch.setattr(parallel_tokenize, "PART", 50)
    monkeypatch.setattr(parallel_tokenize, "_processors", lambda: 2)
    assert_equal(get(FileSource(str(file)), folder), get(FileSource(str(file)), None))


def test_a_process_that_is_killed_while_it_tokenises_does_not_stop_the_others(file, folder, monkeypatch, capsys):
    monkeypatch.setattr(parallel_tokenize, "PART", 50)
    monkeypatch.setattr(parallel_tokenize, "_processors", lambda: 2)
    monkeypatch.setattr(parallel_tokenize, "WORK", "import os, pickle, sys; pickle.load(sys.stdin.buffer); os._exit(1)")
    assert_equal(get(FileSource(str(file)), folder), get(FileSource(str(file)), None))
    assert "this one goes on alone" in capsys.readouterr().out


class Unrenderable(Source):
    name = "unrenderable"

    def read(self):
        good = Example((Message("user", "Who?"), Message("assistant", "Ann.")))
        bad = Example((*good.messages, Message("system", "Be late."), *good.messages))
        return Splits([*[good] * 200, bad], [], [])


def test_an_error_in_another_process_is_the_same_as_in_this_one(folder, monkeypatch):
    monkeypatch.setattr(parallel_tokenize, "PART", 10)
    monkeypatch.setattr(parallel_tokenize, "_processors", lambda: 2)
    for cached in (None, folder):
        with pytest.raises(DataError, match="Example 201 does not fit the chatml template"):
            get(Unrenderable(), cached)
    assert entries(folder) == []


def test_the_processes_end_with_the_one_that_started_them(file, folder, tmp_path):
    script = tmp_path / "script.py"  # without `if __name__ == "__main__"`
    script.write_text(
        "import time\nfrom data import parallel_tokenize as p\n"
        "p.PART, p._processors = 5, lambda: 2\n"
        "p.Worker.result = lambda self: print(self._process.pid, flush=True) or time.sleep(60)\n"
        "from pathlib import Path\nfrom data.cache import prepare\nfrom data.sources import FileSource\n"
        "from resonance.chat_template import ChatTemplate\n"
        f"prepare(FileSource({str(file)!r}), ChatTemplate.named('chatml'), 128, Path({str(folder)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = next(int(line) for line in process.stdout if line.strip().isdigit())
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while is_running(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def batches(source, folder, count=40):
    data = SFTDataModule(source, TEMPLATE, context_length=CONTEXT, batch_size=4, seed=3, cache=folder)
    found = [batch["input_ids"].tolist() for batch in islice(data.train_dataloader(), count)]
    return found, str(data.report), data.used_tokens.tolist(), data.longest, data.fingerprint


def test_a_run_trains_on_the_same_batches_with_a_cache_and_without(file, folder):
    without = batches(FileSource(str(file)), None)
    assert batches(FileSource(str(file)), folder) == without == batches(FileSource(str(file)), folder)


def test_the_built_in_data_and_mixtures_are_kept_as_well(file, folder, monkeypatch):
    def basics():
        return BasicsSource(train_size=200, validation_size=25, test_size=50)

    def mixed():
        return MixedSource(main=FileSource(str(file)), mixed_in=basics(), share=0.05, seed=1)

    expected = [get(source(), None) for source in (basics, mixed)]
    for source, in_memory in zip((basics, mixed), expected, strict=True):
        assert_equal(get(source(), folder), in_memory)
    for kind in (BasicsSource, FileSource, Source):
        monkeypatch.setattr(kind, "write", NotReadAgain.write)
    for source, in_memory in zip((basics, mixed), expected, strict=True):
        assert_equal(get(source(), folder), in_memory)


@pytest.mark.parametrize(
    "change",
    [
        lambda source, file: {"context_length": 64},
        lambda source, file: {"template": ChatTemplate.named("alpaca")},
        lambda source, file: {"source": FileSource(str(file), seed=1)},
        lambda source, file: {"source": FileSource(str(file), shuffle=False)},
        lambda source, file: {"source": FileSource(str(file), train=0.9, test=0.05)},
        lambda source, file: file.write_text(file.read_text().replace("plus", "minus")) and {},
    ],
)
def test_what_the_tokens_depend_on_makes_another_entry(file, folder, change):
    get(FileSource(str(file)), folder)
    arguments = {"source": FileSource(str(file))}
    arguments |= change(arguments["source"], file)
    assert_equal(get(folder=folder, **arguments), get(folder=None, **arguments))
    assert len(entries(folder)) == 2


def test_another_version_of_the_code_makes_another_entry(file, folder, monkeypatch):
    get(FileSource(str(file)), folder)
    monkeypatch.setattr(cache, "_code", lambda template: "another version")
    get(FileSource(str(file)), folder)
    assert len(entries(folder)) == 2


def test_a_template_of_somebody_elses_is_known_by_its_code(file, folder, tmp_path, monkeypatch):
    module = types.ModuleType("own_template")
    module.__file__ = str(tmp_path / "own_template.py")
    monkeypatch.setitem(sys.modules, "own_template", module)
    own = type("Own", (type(TEMPLATE),), {"__module__": "own_template"})(TEMPLATE.tokenizer)
    for number in (1, 2, 2):
        Path(module.__file__).write_text(f"NUMBER = {number}")
        get(FileSource(str(file)), folder, own)
    assert len(entries(folder)) == 2
    del module.__file__  # as in a notebook
    get(FileSource(str(file)), folder, own)
    assert len(entries(folder)) == 2


class OwnSource(Source):
    name = "somebody's own: source"

    def __init__(self, answer):
        self.answer = answer

    def read(self):
        chats = [(Message("user", f"Question {i}?"), Message("assistant", self.answer)) for i in range(9)]
        return Splits([Example(chat) for chat in chats[:6]], [Example(chat) for chat in chats[6:]], [])


class Shouting(FileSource):
    def read(self):
        splits = super().read()
        return replace(
            splits, train=[Example((e.messages[0], Message("assistant", e.answer.upper()))) for e in splits.train]
        )


def test_sources_of_other_packages_are_kept_by_what_they_read(file, folder):
    for source in (OwnSource("Yes."), OwnSource("No."), Shouting(str(file))):
        again = OwnSource(source.answer) if isinstance(source, OwnSource) else Shouting(str(file))
        assert_equal(get(source, folder), get(again, None))
        assert_equal(get(again, folder), get(source, None))
    assert len(entries(folder)) == 3


def test_damaged_data_is_prepared_again(file, folder):
    in_memory = get(FileSource(str(file)), None)
    get(FileSource(str(file)), folder)
    for name in ("train/labels.int32", "content.json"):
        path = folder / entries(folder)[0] / name
        path.write_bytes(path.read_bytes()[:-9])
        assert_equal(get(FileSource(str(file)), folder), in_memory)
        path.unlink()
        assert_equal(get(FileSource(str(file)), folder), in_memory)


PREPARE = """
import sys, time
from pathlib import Path
from data import cache
from data.sources import FileSource
from resonance.chat_template import ChatTemplate

write_tokens = cache._write_tokens
def slow(*arguments):
    print("tokenising", flush=True)
    time.sleep(float(sys.argv[3]))
    return write_tokens(*arguments)
cache._write_tokens = slow
cache.prepare(FileSource(sys.argv[1]), ChatTemplate.named("chatml"), 128, Path(sys.argv[2]))
print("done", flush=True)
"""


def preparing(file, folder, seconds):
    command = [sys.executable, "-c", PREPARE, str(file), str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(file, folder):
    process = preparing(file, folder, 60)
    assert process.stdout.readline() == "tokenising\n"
    process.kill()
    process.wait()
    assert [name.endswith(".partial") for name in entries(folder)] == [True]
    assert_equal(get(FileSource(str(file)), folder), get(FileSource(str(file)), None))
    assert not entries(folder)[0].endswith(".partial") and len(entries(folder)) == 1


def test_of_two_processes_one_prepares_and_the_other_waits(file, folder):
    first = preparing(file, folder, 1.5)
    assert first.stdout.readline() == "tokenising\n"
    second = preparing(file, folder, 0)
    lines = second.stdout.read().splitlines()
    assert lines == [f"{file}: waiting for another process to tokenise it", "done"]
    assert first.wait() == second.wait() == 0
    assert len(entries(folder)) == 1


def test_a_full_disk_is_one_sentence_and_leaves_nothing(file, tmp_path):
    limits = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))\n"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    folder = tmp_path / "cache"
    done = subprocess.run(
        [sys.executable, "-c", ignore + limits + PREPARE, str(file), str(folder), "0"], capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == (
        f"data.DataError: Tokenised data cannot be kept in {folder} (File too large); make room there, name another "
        "folder (data_cache=FOLDER), or hold it in memory (data_cache=false)."
    )
    assert entries(folder) == []


def test_a_folder_that_is_a_file_is_told(file, folder):
    folder.write_text("no folder")
    with pytest.raises(DataError, match=r"cannot be kept in .*data_cache=FOLDER"):
        get(FileSource(str(file)), folder)


def test_data_without_anything_to_train_on_is_refused_and_not_kept(folder, tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text('{"prompt": "Who?", "completion": " "}\n' * 3)
    with pytest.raises(DataError, match="None of the 3 training examples"):
        get(FileSource(str(path), train=1, validation=0, test=0), folder)
    assert entries(folder) == []


def test_what_nobody_uses_any_more_is_removed_and_nothing_else(file, folder):
    get(FileSource(str(file)), folder)
    get(FileSource(str(file), seed=1), folder)
    old, used = entries(folder)
    shutil.copytree(folder / old, folder / "somebody-elses")
    (folder / f"{old}.partial").mkdir()
    long_ago = time.time() - 31 * 86400
    for path in (folder / old / "content.json", folder / "somebody-elses" / "content.json"):
        os.utime(path, (long_ago, long_ago))
    with FileLock(folder / f".{old}.lock"):
        get(FileSource(str(file), seed=2), folder)
        assert old in entries(folder)
    get(FileSource(str(file), seed=3), folder)
    left = entries(folder)
    assert old not in left and f"{old}.partial" not in left
    assert used in left and "somebody-elses" in left and len(left) == 4


def test_votes_and_rejected_answers_come_back_from_the_cache(tmp_path, folder):
    rows = [{"prompt": f"Why {i}?", "completion": f"Because {i}.", "label": i % 3 > 0} for i in range(60)]
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = FileSource(str(path))
    kept, held = get(source, folder), get(source, None)
    assert_equal(kept, held)
    assert kept.train.report == held.train.report
    assert kept.train.report.skipped["answer with a vote against it"] > 0
