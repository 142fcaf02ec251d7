"""Prepares a source's data for training, and keeps the result on disk: the next start maps it into memory.

A prepared data set is a folder `NAME-KEY`. The key is a hash of everything that the content depends on: the data, the
template, its tokenizer, the context length and the code of this package. The folder appears under its name once it is
complete. A lock lets one process prepare a data set while others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich import get_console

import data
from data import DataError
from data.duplicates import Digests, Duplicates, describe, find_duplicates
from data.example import Example, SplitIndices, Splits, fingerprint_of_json
from data.example_file import ExampleFile, ExampleWriter, StoredExamples
from data.parallel_tokenize import Job, parts_of, progress_bar
from data.sources import Source, cache_key, write_examples
from data.tokenize import Report, Tokenized, Totals, tokenize
from resonance import chat_template, tokenizer
from resonance.chat_template import ChatTemplate
from resonance.private_files import private_folder

CONTENT = "content.json"  # written last: sizes of all files, and what is no array
SPLITS = ("train", "validation", "test")
TOKENIZED = ("train", "validation")
INPUT_IDS, LABELS = "input_ids.int32", "labels.int32"
ARRAYS = ("offsets", "indices", "token_ids")
PARTIAL = ".partial"
KEPT_DAYS = 30  # without use
_FOLDER = re.compile(r".+-[0-9a-f]{20}")


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A source's data, ready for training.

    `held_out` counts the training examples that validation or test ask as well; training skips them. `duplicates`
    describes duplicates. `fingerprint` is that of all splits.
    """

    splits: Splits
    train: Tokenized
    validation: Tokenized
    fingerprint: str
    held_out: int
    duplicates: Sequence[str]


def prepare(source: Source, template: ChatTemplate, context_length: int, cache: Path | None) -> PreparedData:
    """Read and tokenise a source's data, or map what an earlier call kept in the folder `cache` into memory.

    Without `cache` everything is read, tokenised and held in memory, as it is with a template whose code is in no file.
    Otherwise memory holds a few numbers for each example.

    Raises DataError when the data cannot be read or written, when it has nothing to train on, and when the source
    refuses leakage and validation or test ask what training examples ask.
    """
    prepared = _prepare(source, template, context_length, cache)
    check_leakage(source, prepared.held_out)
    return prepared


def check_leakage(source: Source, held_out: int) -> None:
    """Raise DataError when `held_out` training examples are asked by validation or test, and the source refuses it."""
    if held_out and source.leakage == "refuse":
        raise DataError(
            f"{held_out:,} training examples of {source.name} are asked by validation or test as well, and "
            "data.leakage is refuse; take them out of the data (`resonance data` names them), or leave them out of "
            "training: data.leakage=remove."
        )


def _prepare(source: Source, template: ChatTemplate, context_length: int, cache: Path | None) -> PreparedData:
    if cache is None or _code_file(template) is None:
        return _prepare_in_memory(source, template, context_length)
    name = re.sub(r"[^\w.+-]+", "_", source.name)[-60:].strip("_") or "data"
    folder = cache.absolute() / f"{name}-{_key(source, template, context_length)}"
    prepared = _load(folder)
    if prepared is None:
        with _writing(folder), _locked(folder, source.name):
            prepared = _load(folder)  # another process may have prepared it
            if prepared is None:
                _remove_unused(folder.parent)
                _build(source, template, context_length, folder)
                prepared = _load(folder)
    if prepared is None:
        raise DataError(f"{folder} was changed while it was written; start again.")
    return prepared


def _prepare_in_memory(source: Source, template: ChatTemplate, context_length: int) -> PreparedData:
    splits = source.splits()
    duplicates = find_duplicates(splits)
    _check_held_out(source, duplicates, len(splits.train))
    train = tokenize(splits.train, template, context_length, held_out=duplicates.held_out)
    _check_used(source, train.report)
    return PreparedData(
        splits,
        train,
        tokenize(splits.validation, template, context_length),
        source.fingerprint(),
        len(duplicates.held_out),
        describe(duplicates, splits.train),
    )


def _check_held_out(source: Source, duplicates: Duplicates, examples: int) -> None:
    count = len(duplicates.held_out)
    if count and count == examples:
        raise DataError(
            f"All {count:,} training examples of {source.name} are asked by validation or test as "
            "well; give other data, or train on all of it: data.train=1 data.validation=0 data.test=0."
        )


def _check_used(source: Source, report: Report) -> None:
    if not report.used:
        raise DataError(
            f"None of the {report.examples} training examples of {source.name} has anything to learn "
            f"from ({report}); give data with answers, or a longer context."
        )


def _key(source: Source, template: ChatTemplate, context_length: int) -> str:
    vocabulary = (template.tokenizer.vocab_size, sorted(template.tokenizer.special_tokens.items()))
    content = cache_key(source) or f"fingerprint {source.fingerprint()}"
    kinds = [f"{type(part).__module__}.{type(part).__qualname__}" for part in (source, template)]
    parts = (_code(template), *kinds, content, template.name, template.jinja, vocabulary, context_length)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _code_file(template: ChatTemplate) -> Path | None:
    path = getattr(sys.modules.get(type(template).__module__), "__file__", None)
    return None if path is None else Path(path)


def _code(template: ChatTemplate) -> str:
    """The SHA-256 of the code that reads, renders and tokenises."""
    package = Path(str(data.__file__)).parent
    files = [*sorted(package.rglob("*.py")), *(Path(str(module.__file__)) for module in (chat_template, tokenizer))]
    if (own := _code_file(template)) is not None:
        files.append(own)
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


@contextmanager
def _writing(folder: Path) -> Generator[None]:
    try:
        private_folder(folder.parent)
        yield
    except OSError as error:
        raise DataError(
            f"Tokenised data cannot be kept in {folder.parent} ({error.strerror or error}); make room there, name "
            "another folder (data_cache=FOLDER), or hold it in memory (data_cache=false)."
        ) from error


@contextmanager
def _locked(folder: Path, name: str) -> Generator[None]:
    lock = FileLock(_lock_file(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        get_console().print(f"{name}: waiting for another process to tokenise it", markup=False, soft_wrap=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(source: Source, template: ChatTemplate, context_length: int, folder: Path) -> None:
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir()
    try:
        _write(source, template, context_length, partial)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(source: Source, template: ChatTemplate, context_length: int, folder: Path) -> None:
    """Write a prepared data set: one pass over the source, and one over the examples of each split."""
    indices, duplicates = _write_examples(source, folder)
    _check_held_out(source, duplicates, len(indices.train))
    stored = _stored(folder)
    reports: dict[str, Report] = {}
    for split, name, held_out in zip(stored, TOKENIZED, (duplicates.held_out, frozenset[int]()), strict=False):
        job = Job(split, template, context_length, held_out)
        with progress_bar(f"{source.name}: tokenising {name}", len(split)) as advance:
            reports[name] = _write_tokens(job, folder / name, advance)
    _check_used(source, reports["train"])
    content = {
        "fingerprint": fingerprint_of_json((split.file.json(i) for i in split.indices.tolist()) for split in stored),
        "held_out": len(duplicates.held_out),
        "duplicates": describe(duplicates, stored[0]),
        "unusable": indices.unusable,
        "validation_sources": indices.validation_sources,
        "reports": {name: asdict(report) for name, report in reports.items()},
        "files": {str(path.relative_to(folder)): path.stat().st_size for path in _files(folder)},
    }
    (folder / CONTENT).write_text(json.dumps(content), encoding="utf-8")
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _write_examples(source: Source, folder: Path) -> tuple[SplitIndices, Duplicates]:
    digests = Digests()
    with progress_bar(f"{source.name}: reading", None) as advance, ExampleWriter(folder) as writer:

        def add(example: Example) -> None:
            writer.add(example)
            digests.add(example)
            advance(1)

        indices = write_examples(source, add)
    for name in SPLITS:
        np.save(folder / f"{name}.npy", getattr(indices, name))
    return indices, digests.find_duplicates(indices)


def _write_tokens(job: Job, folder: Path, advance: Callable[[int], None]) -> Report:
    """Write a split's tokens to files as they come."""
    folder.mkdir()
    totals = Totals()
    with (folder / INPUT_IDS).open("wb") as input_ids, (folder / LABELS).open("wb") as labels:
        for part in parts_of(job):
            input_ids.write(part.input_ids.tobytes())
            labels.write(part.labels.tobytes())
            totals.add(part)
            advance(part.examples)
    nothing = np.empty(0, np.int32)
    tokenized = totals.with_tokens(nothing, nothing)
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(tokenized, name))
    return tokenized.report


def _load(folder: Path) -> PreparedData | None:
    """Map a prepared data set into memory; None where there is none, or a damaged one."""
    try:
        content = json.loads((folder / CONTENT).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in content["files"]}
        if sizes != content["files"]:
            return None
        (folder / CONTENT).touch()  # `_remove_unused` looks at its time
        splits = Splits(
            *_stored(folder), unusable=content["unusable"], validation_sources=content["validation_sources"]
        )
        train, validation = (_load_tokens(folder / name, content["reports"][name]) for name in TOKENIZED)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return PreparedData(splits, train, validation, content["fingerprint"], content["held_out"], content["duplicates"])


def _load_tokens(folder: Path, report: dict[str, Any]) -> Tokenized:
    arrays = {name: np.load(folder / f"{name}.npy") for name in ARRAYS}
    return Tokenized(_mapped(folder / INPUT_IDS), _mapped(folder / LABELS), **arrays, report=Report(**report))


def _mapped(path: Path) -> NDArray[np.int32]:
    if not path.stat().st_size:
        return np.empty(0, np.int32)
    return np.memmap(path, np.int32, mode="r").view(np.ndarray)  # plain: a memmap's own indexing is slow


def _stored(folder: Path) -> list[StoredExamples]:
    file = ExampleFile(folder)
    return [StoredExamples(file, np.load(folder / f"{name}.npy")) for name in SPLITS]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _remove_unused(cache: Path) -> None:
    """Remove prepared data that nobody has used for a while, and what killed processes have left."""
    for folder in cache.iterdir():
        name = folder.name.removesuffix(PARTIAL)
        if not _FOLDER.fullmatch(name):
            continue
        with suppress(OSError, Timeout), FileLock(_lock_file(folder.with_name(name)), timeout=0):
            age = time.time() - (folder / CONTENT).stat().st_mtime if folder.name == name else None
            if age is None or age > KEPT_DAYS * 86400:
                shutil.rmtree(folder)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")
