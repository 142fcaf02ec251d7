"""Sources of instruction data: files, the Hugging Face Hub, and the built-in generator.

A source has three splits of examples and their fingerprint. Sources know nothing of tokens and training. To add one,
write a class with `name` and `read()`, and a YAML in `configs/data/`.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data import DataError
from data.basics import BasicsSettings, generate
from data.example import Example, SplitIndices, Splits, fingerprint
from data.files import KINDS, Kind, Table, read_file
from data.formats import read_rows
from data.hub import HubRows, download, load
from data.repetitions import Leakage, Mode, Repetitions, deduplicate_mode, leakage_mode
from data.row_streams import FileStream, HubStream
from data.streaming import ExampleStream, StreamSettings, stream_settings


class Source(ABC):
    """Instruction data in three splits, read once and cached.

    `deduplicate` removes training examples that repeat an earlier one: `exact` for identical texts, `normalised` also
    for those that differ in case and white space only. Training leaves out examples whose prompt is in validation or
    test; with `leakage=refuse` it does not begin. Where `streaming` is set, training reads `stream()` instead, and
    `splits()` has validation and test only.
    """

    deduplicate: Mode | None = None
    leakage: Leakage = "remove"
    streaming: StreamSettings | None = None
    _splits: Splits | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The data's name in reports and in a checkpoint's provenance."""

    @abstractmethod
    def read(self) -> Splits:
        """Read or make the data. Raises DataError when that is not possible."""

    def write(self, add: Callable[[Example], None]) -> SplitIndices:
        """Pass each example to `add` once; return the splits as indices in the order of these calls.

        Sources of data that may not fit into memory override it, and hold a few examples at a time.
        """
        splits = self._splits or self.read()
        for part in (splits.train, splits.validation, splits.test):
            for example in part:
                add(example)
        return splits.indices()

    def cache_key(self) -> str | None:
        """What the examples depend on apart from this package's code; None where only reading them can tell.

        It is computed without reading the examples one by one. Raises DataError as `read` does.
        """
        return None

    def stream(self) -> ExampleStream:
        """The examples as a stream. Raises DataError where the source has none."""
        raise DataError(f"{self.name} cannot be streamed; set data.streaming=false.")

    def splits(self) -> Splits:
        """The data; read at the first call."""
        if self._splits is None and self.streaming is not None:
            self._splits = self.stream().held_out()
        if self._splits is None:
            self._splits = self.read() if self.deduplicate is None else self._read_without_repetitions()
        return self._splits

    def _read_without_repetitions(self) -> Splits:
        examples: list[Example] = []
        return write_examples(self, examples.append).splits(examples)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the examples of all splits; equal wherever the data is equal."""
        if self.streaming is not None:
            return self.stream().fingerprint()
        splits = self.splits()
        return fingerprint((splits.train, splits.validation, splits.test))


def write_examples(source: Source, add: Callable[[Example], None]) -> SplitIndices:
    """Call a source's `write`; where a subclass changes `read` alone, write what that reads."""
    write = source.write if _is_up_to_date(source, "write") else partial(Source.write, source)
    if source.deduplicate is None:
        return write(add)
    repetitions = Repetitions(source.deduplicate)

    def add_both(example: Example) -> None:
        repetitions.add(example)
        add(example)

    return repetitions.remove(write(add_both))


def cache_key(source: Source) -> str | None:
    """Return a source's `cache_key`; None where a subclass changes `read` alone, which the key does not tell."""
    key = source.cache_key() if _is_up_to_date(source, "cache_key") else None
    return key if key is None or source.deduplicate is None else f"{key} without repetitions ({source.deduplicate})"


def _is_up_to_date(source: Source, method: str) -> bool:
    """Whether the class that defines this method, or a class below it, defines the `read` that is in use."""
    classes = type(source).__mro__
    defining = {name: next(c for c in classes if name in vars(c)) for name in (method, "read")}
    return issubclass(defining[method], defining["read"])


class BasicsSource(Source):
    """The built-in tasks. The arguments are those of `BasicsSettings` and of `Source`."""

    def __init__(
        self,
        *,
        train_size: int = 40_000,
        validation_size: int = 300,
        test_size: int = 1_000,
        seed: int = 0,
        families: Sequence[str] | None = None,
        chain_share: float = 0.25,
        max_turns: int = 6,
        system_share: float = 0.1,
        deduplicate: object = None,
        leakage: str = "remove",
    ) -> None:
        self.deduplicate, self.leakage = deduplicate_mode(deduplicate), leakage_mode(leakage)
        self.settings = BasicsSettings(
            train_size=train_size,
            validation_size=validation_size,
            test_size=test_size,
            seed=seed,
            families=None if families is None else tuple(families),
            chain_share=chain_share,
            max_turns=max_turns,
            system_share=system_share,
        )

    def cache_key(self) -> str:
        """The settings: the examples are generated from them."""
        return repr(self.settings)

    @property
    def name(self) -> str:
        """Always `basics`."""
        return "basics"

    def read(self) -> Splits:
        """Generate the data; under a second for the default sizes."""
        return generate(self.settings)


class _RowSource(Source):
    """Data in one list of rows, which this class splits."""

    def __init__(
        self,
        train: float,
        validation: float,
        test: float,
        shuffle: bool,
        seed: int,
        deduplicate: object,
        leakage: str,
        streaming: object,
        stream: Mapping[str, object] | None,
    ) -> None:
        self.deduplicate, self.leakage = deduplicate_mode(deduplicate), leakage_mode(leakage)
        shares = {"train": train, "validation": validation, "test": test}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise DataError(f"The {name} share of the data is {share}; it must be between 0 and 1.")
        if abs(sum(shares.values()) - 1) > 1e-6:
            given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            raise DataError(f"The shares of the data ({given}) add up to {sum(shares.values()):g}; they must make 1.")
        self._train, self._test, self._shuffle, self._seed = train, test, shuffle, seed
        self._has_validation = validation > 0
        self.streaming = stream_settings(streaming, stream, validation=validation, test=test, seed=seed)
        if self.streaming is None:
            return
        if self.deduplicate is not None:
            raise DataError(
                f"data.deduplicate={deduplicate} compares all examples, which data.streaming=true never holds; "
                "set data.deduplicate=null, or data.streaming=false."
            )
        if self.leakage == "refuse" and self.streaming.validation != "share":
            raise DataError(
                "data.leakage=refuse needs all examples before training begins, which data.streaming=true reads while "
                "training; set data.leakage=remove, or data.stream.validation=share, by which no prompt is in both."
            )

    @abstractmethod
    def table(self) -> Table:
        """All rows in order, and the names of their columns."""

    @abstractmethod
    def content_key(self) -> str | None:
        """A hash of the rows, computed without reading them one by one; None where that is not possible."""

    def cache_key(self) -> str | None:
        """A hash of the rows, and how they are split."""
        content = self.content_key()
        split = (self._train, self._test, self._has_validation, self._shuffle, self._seed)
        return None if content is None else f"{content} {split}"

    def read(self) -> Splits:
        """Read the rows and split them in the order train, test, validation, after a shuffle if `shuffle`."""
        examples: list[Example] = []
        return self.write(examples.append).splits(examples)

    def write(self, add: Callable[[Example], None]) -> SplitIndices:
        """Read and split the rows, one in memory at a time."""
        if self.streaming is not None:
            raise DataError(
                f"{self.name} is streamed (data.streaming=true), and a part of a mixture must be read whole; set its "
                "streaming to false."
            )
        table = self.table()
        count, unusable = read_rows(table.rows, table.columns, self.name, add)
        order = array("q", range(count))
        if self._shuffle:
            random.Random(self._seed).shuffle(order)
        # As in the book: train and test are rounded down, and the rest is validation.
        train_end = max(1, int(count * self._train + 1e-9))
        test_end = train_end + int(count * self._test + 1e-9)
        if not self._has_validation:
            train_end += count - test_end
            test_end = count
        shuffled = np.frombuffer(order, np.int64)
        return SplitIndices(shuffled[:train_end], shuffled[test_end:], shuffled[train_end:test_end], unusable)


class FileSource(_RowSource):
    """A JSON, JSONL, CSV, TSV or Parquet file at a path or http(s) URL, in a format of `data/formats.py`.

    `train`, `validation` and `test` are shares that add up to 1. With `shuffle`, `seed` shuffles the rows before the
    split. Without it, the first rows are train, the next ones test, and the last ones validation. `streaming` reads it
    while training, as the settings `stream` say (`data.streaming.StreamSettings`); `path` may be a pattern then.
    """

    def __init__(
        self,
        path: str | None,
        *,
        train: float = 0.85,
        validation: float = 0.05,
        test: float = 0.1,
        shuffle: bool = True,
        seed: int = 0,
        deduplicate: object = None,
        leakage: str = "remove",
        streaming: object = False,
        stream: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(train, validation, test, shuffle, seed, deduplicate, leakage, streaming, stream)
        if not path:
            raise DataError("No data file is given; say which by data.path=FILE (JSON, JSONL, CSV, TSV or Parquet).")
        self.path = path

    @property
    def name(self) -> str:
        """The path or URL, as configured."""
        return self.path

    def stream(self) -> ExampleStream:
        """Stream the file, or the files of a pattern."""
        assert self.streaming is not None
        return ExampleStream(FileStream(self.path), self.streaming, self.name)

    def table(self) -> Table:
        """Open the file; `datasets` downloads and caches a URL."""
        path, kind = self._local_file()
        return read_file(path, kind, self.path)

    def content_key(self) -> str:
        """The SHA-256 of the file and its kind."""
        path, kind = self._local_file()
        return f"{kind} {_sha256([path], self.path)}"

    def _local_file(self) -> tuple[Path, Kind]:
        remote = self.path.startswith(("http://", "https://"))
        path = Path(self.path.split("?")[0] if remote else self.path).expanduser()
        if not remote and path.is_dir():
            raise DataError(f"{self.path} is a folder; give the path of a file in it.")
        kind = KINDS.get(path.suffix.lower())
        if kind is None:
            raise DataError(
                f"{self.path} is no kind of file that is read here; its name must end in one of: {', '.join(KINDS)}."
            )
        if not remote and not path.is_file():
            raise DataError(f"There is no file {self.path}; give the path of a JSON, JSONL, CSV, TSV or Parquet file.")
        return (download(self.path) if remote else path), kind


class HubSource(_RowSource):
    """A data set on the Hugging Face Hub, such as `tatsu-lab/alpaca`; downloaded once and cached.

    `config` and `split` select a part of it by the Hub's names; `seed` shuffles that part, and the shares `train`,
    `validation` and `test` split it. `streaming` and `stream` as in `FileSource`.
    """

    def __init__(
        self,
        name: str,
        *,
        config: str | None = None,
        split: str = "train",
        train: float = 0.95,
        validation: float = 0.02,
        test: float = 0.03,
        seed: int = 0,
        deduplicate: object = None,
        leakage: str = "remove",
        streaming: object = False,
        stream: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(train, validation, test, True, seed, deduplicate, leakage, streaming, stream)
        self._name, self._config, self._split = name, config, split

    @property
    def name(self) -> str:
        """The data set's name on the Hub."""
        return self._name

    def stream(self) -> ExampleStream:
        """Stream the data set."""
        assert self.streaming is not None
        return ExampleStream(HubStream(self._name, self._config, self._split), self.streaming, self.name)

    def table(self) -> Table:
        """Load the data set with `datasets`, which maps its file into memory."""
        loaded = load(self._name, self._config, self._split)
        if not len(loaded):
            raise DataError(f"{self.name} has no rows; give data with at least one example.")
        return Table(list(loaded.column_names), HubRows(loaded))

    def content_key(self) -> str | None:
        """The SHA-256 of the files in which `datasets` keeps the data set; None where there are none."""
        files = [Path(file["filename"]) for file in load(self._name, self._config, self._split).cache_files]
        return _sha256(files, self.name) if files else None


def _sha256(files: Sequence[Path], where: str) -> str:
    digest = hashlib.sha256()
    try:
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror}).") from error
    return digest.hexdigest()
