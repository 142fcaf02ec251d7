"""Sources of instruction data: files, the Hugging Face Hub, and the built-in generator.

A source has three splits of examples and their fingerprint. Sources know nothing of tokens and training. To add one,
write a class with `name` and `read()`, and a YAML in `configs/data/`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from data import DataError
from data.basics import BasicsSettings, generate
from data.example import Splits, fingerprint
from data.files import KINDS, Row, read_file
from data.formats import read_rows


class Source(ABC):
    """Instruction data in three splits, read once and cached."""

    _splits: Splits | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The data's name in reports and in a checkpoint's provenance."""

    @abstractmethod
    def read(self) -> Splits:
        """Read or make the data. Raises DataError when that is not possible."""

    def splits(self) -> Splits:
        """The data; read at the first call."""
        if self._splits is None:
            self._splits = self.read()
        return self._splits

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the examples of all splits; equal wherever the data is equal."""
        splits = self.splits()
        return fingerprint((splits.train, splits.validation, splits.test))


class BasicsSource(Source):
    """The built-in tasks. The arguments are those of `BasicsSettings`."""

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
    ) -> None:
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

    @property
    def name(self) -> str:
        """Always `basics`."""
        return "basics"

    def read(self) -> Splits:
        """Generate the data; under a second for the default sizes."""
        return generate(self.settings)


class _RowSource(Source):
    """Data in one list of rows, which this class splits."""

    def __init__(self, train: float, validation: float, test: float, shuffle: bool, seed: int) -> None:
        shares = {"train": train, "validation": validation, "test": test}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise DataError(f"The {name} share of the data is {share}; it must be between 0 and 1.")
        if abs(sum(shares.values()) - 1) > 1e-6:
            given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            raise DataError(f"The shares of the data ({given}) add up to {sum(shares.values()):g}; they must make 1.")
        self._train, self._test, self._shuffle, self._seed = train, test, shuffle, seed
        self._has_validation = validation > 0

    @abstractmethod
    def rows(self) -> tuple[Sequence[Row], list[str]]:
        """All rows in order, and the names of their columns."""

    def read(self) -> Splits:
        """Read the rows and split them in the order train, test, validation, after a shuffle if `shuffle`."""
        rows, columns = self.rows()
        if not rows:
            raise DataError(f"{self.name} has no rows; give data with at least one example.")
        examples, unusable = read_rows(rows, columns, self.name)
        if self._shuffle:
            random.Random(self._seed).shuffle(examples)
        # As in the book: train and test are rounded down, and the rest is validation.
        train_end = max(1, int(len(examples) * self._train + 1e-9))
        test_end = train_end + int(len(examples) * self._test + 1e-9)
        if not self._has_validation:
            train_end += len(examples) - test_end
            test_end = len(examples)
        return Splits(examples[:train_end], examples[test_end:], examples[train_end:test_end], unusable)


class FileSource(_RowSource):
    """A JSON, JSONL, CSV, TSV or Parquet file at a path or http(s) URL, in a format of `data/formats.py`.

    `train`, `validation` and `test` are shares that add up to 1. With `shuffle`, `seed` shuffles the rows before the
    split. Without it, the first rows are train, the next ones test, and the last ones validation.
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
    ) -> None:
        super().__init__(train, validation, test, shuffle, seed)
        if not path:
            raise DataError("No data file is given; say which by data.path=FILE (JSON, JSONL, CSV, TSV or Parquet).")
        self.path = path

    @property
    def name(self) -> str:
        """The path or URL, as configured."""
        return self.path

    def rows(self) -> tuple[Sequence[Row], list[str]]:
        """Read the file; `datasets` downloads and caches a URL."""
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
        return read_file(_download(self.path) if remote else path, kind, self.path)


class HubSource(_RowSource):
    """A data set on the Hugging Face Hub, such as `tatsu-lab/alpaca`; downloaded once and cached.

    `config` and `split` select a part of it by the Hub's names; `seed` shuffles that part, and the shares `train`,
    `validation` and `test` split it.
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
    ) -> None:
        super().__init__(train, validation, test, True, seed)
        self._name, self._config, self._split = name, config, split

    @property
    def name(self) -> str:
        """The data set's name on the Hub."""
        return self._name

    def rows(self) -> tuple[Sequence[Row], list[str]]:
        """Load the data set with `datasets`."""
        return _load(self._name, self._config, self._split)


def _download(url: str) -> Path:
    """The cached local copy of a URL; downloaded again when the remote file changes."""
    from datasets import DownloadManager  # slow to import (over a second)

    with _quiet():
        try:
            return Path(cast(str, DownloadManager().download(url)))
        except Exception as error:  # the library raises its own, fsspec's and HTTP errors
            raise DataError(
                f"{url} could not be loaded ({_reason(error)}); it needs a network, or data.path=FILE with a copy."
            ) from error


def _load(name: str, config: str | None, split: str) -> tuple[Sequence[Row], list[str]]:
    """Load one split with `datasets`. Raises DataError for any of its errors."""
    from datasets import load_dataset  # slow to import (over a second)

    with _quiet():
        try:
            loaded = load_dataset(name, name=config, split=split)
        except Exception as error:  # the library raises its own, pyarrow's, fsspec's and HTTP errors
            raise DataError(
                f"{name} could not be loaded ({_reason(error)}); the Hub must be reached once (then the copy on this "
                "machine is enough); or use data=json data.path=FILE."
            ) from error
    return cast(Sequence[Row], loaded.to_list()), loaded.column_names


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextmanager
def _quiet() -> Generator[None]:
    """Silence the progress bars of `datasets`, and its log of errors that become a DataError."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    verbosity, bars_were_off = get_verbosity(), are_progress_bars_disabled()
    set_verbosity(CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if not bars_were_off:
            enable_progress_bars()
