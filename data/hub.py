"""Loads URLs and data sets of the Hugging Face Hub with `datasets`, which downloads and caches them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from data import DataError
from data.files import PARQUET_ROWS, Row

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


class HubRows:
    """The rows of a data set of `datasets`, as Python objects."""

    def __init__(self, loaded: Dataset) -> None:
        self._batches = loaded.with_format("arrow")

    def __iter__(self) -> Iterator[Row]:
        for table in cast(Iterable[Any], self._batches.iter(batch_size=PARQUET_ROWS)):
            yield from table.to_pylist()


def download(url: str) -> Path:
    """The cached local copy of a URL; downloaded again when the remote file changes."""
    from datasets import DownloadManager  # slow to import (over a second)

    with _quiet():
        try:
            return Path(cast(str, DownloadManager().download(url)))
        except Exception as error:  # the library raises its own, fsspec's and HTTP errors
            raise DataError(
                f"{url} could not be loaded ({_reason(error)}); it needs a network, or data.path=FILE with a copy."
            ) from error


def load(name: str, config: str | None, split: str) -> Dataset:
    """Load one split with `datasets`. Raises DataError for any of its errors."""
    from datasets import load_dataset  # slow to import (over a second)

    with _quiet():
        try:
            return load_dataset(name, name=config, split=split)
        except Exception as error:  # the library raises its own, pyarrow's, fsspec's and HTTP errors
            raise DataError(
                f"{name} could not be loaded ({_reason(error)}); the Hub must be reached once (then the copy on this "
                "machine is enough); or use data=json data.path=FILE."
            ) from error


def stream_split(name: str, config: str | None, split: str) -> tuple[IterableDataset, str]:
    """Open one split for reading without downloading it, and its identity (hex). Raises DataError for any error.

    The Hub's revision is pinned at that of now; a local folder is known by its files' names, sizes and times.
    """
    from datasets import load_dataset  # slow to import (over a second)
    from huggingface_hub import HfApi

    with _quiet():
        try:
            folder = Path(name).expanduser()
            if folder.is_dir():
                files = sorted(path for path in folder.rglob("*") if path.is_file())
                facts = [(str(path.relative_to(folder)), *path.stat()[6:9:2]) for path in files]
                revision, identity = None, repr(facts)
            else:
                revision = identity = str(HfApi().dataset_info(name).sha)
            loaded = load_dataset(name, name=config, split=split, revision=revision, streaming=True)
        except Exception as error:  # the library raises its own, pyarrow's, fsspec's and HTTP errors
            raise DataError(
                f"{name} could not be streamed ({_reason(error)}); the Hub must be reached; or use data=json "
                "data.path=FILE data.streaming=true."
            ) from error
    return loaded, hashlib.sha256(repr((name, config, split, identity)).encode()).hexdigest()


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
