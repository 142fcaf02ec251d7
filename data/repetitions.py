"""Removes training examples that repeat an earlier one (`data.deduplicate`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from data import DataError
from data.duplicates import DIGEST, digest_whole
from data.example import Example, SplitIndices

# Which texts are equal: identical ones, or also those that differ in case and white space only.
Mode: TypeAlias = Literal["exact", "normalised"]
Leakage: TypeAlias = Literal["remove", "refuse"]
MODES, LEAKAGE = get_args(Mode), get_args(Leakage)

REPETITION = "repeats an earlier training example"


def deduplicate_mode(value: object) -> Mode | None:
    """Check the setting `deduplicate`; null and false keep repetitions."""
    if value is None or value is False:
        return None
    if value not in MODES:
        raise DataError(f"data.deduplicate must be exact, normalised or false, not {value!r}.")
    return value  # pyright: ignore[reportReturnType]  # one of MODES


def leakage_mode(value: object) -> Leakage:
    """Check the setting `leakage`."""
    if value not in LEAKAGE:
        raise DataError(f"data.leakage must be remove or refuse, not {value!r}.")
    return value  # pyright: ignore[reportReturnType]  # one of LEAKAGE


class Repetitions:
    """Hashes of examples, 16 bytes each, by which repetitions are removed from a training split."""

    def __init__(self, mode: Mode) -> None:
        self._normalised = mode == "normalised"
        self._digests = bytearray()
        self._rows: list[int] = []

    def add(self, example: Example) -> None:
        """Add the next example."""
        self._digests += digest_whole(example, normalised=self._normalised)
        self._rows.append(example.row or len(self._rows) + 1)

    def remove(self, parts: SplitIndices) -> SplitIndices:
        """Keep the first of equal training examples; the others' rows become unusable.

        `parts` are indices of the added examples. An index that occurs several times in `parts.train` is upsampled and
        stays.
        """
        digests: NDArray[np.void] = np.frombuffer(self._digests, DIGEST)[parts.train]
        _, first, group = np.unique(digests, return_index=True, return_inverse=True)
        repeats = parts.train[first[group]] != parts.train
        if not repeats.any():
            return parts
        rows = [self._rows[i] for i in dict.fromkeys(parts.train[repeats].tolist())]
        unusable = {**parts.unusable, REPETITION: rows}
        return replace(parts, train=parts.train[~repeats], unusable=unusable)
