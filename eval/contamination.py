"""Contamination: which test items overlap with the run's training data, and the scores without them.

An item is touched if one of its word n-grams also stands in a training conversation, as in GPT-3's evaluation (Brown
et al. 2020, appendix C; 13 words there). An item of fewer words is touched if all of its words stand in a row in one.
Words are case-folded, without punctuation; system prompts are not compared. The data that base weights were trained on
before this run is unknown, and so not part of the check.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.example import Example
from eval import EvalError
from eval.report.table import format_value
from eval.results import Result
from eval.statistics import ScoreJson
from eval.tasks.base import Item, MetricSpec, Task, question
from eval.text_metrics import words

Hashes = NDArray[np.uint64]

_BASE = np.uint64(0x9E3779B97F4A7C15)  # an odd multiplier of the rolling hash, modulo 2**64


@dataclass(frozen=True, slots=True)
class Contamination:
    """A task's touched items, of `items`, and its scores without them; none if none or all are touched."""

    ngram: int
    items: int
    touched: frozenset[str]
    untouched_scores: Mapping[str, ScoreJson]

    @property
    def share(self) -> float:
        """The share of touched items."""
        return len(self.touched) / self.items

    def as_json(self) -> dict[str, object]:
        """The outcome as `eval.json` stores it."""
        return {
            "ngram": self.ngram,
            "items": self.items,
            "touched": len(self.touched),
            "share": self.share,
            **({"untouched": dict(self.untouched_scores)} if self.touched else {}),
        }

    def note(self, task: str, specs: Mapping[str, MetricSpec]) -> str | None:
        """A sentence with the task's first score without the touched items; None where no item is touched."""
        if not self.touched:
            return None
        found = f"{task}: {len(self.touched)} of {self.items} items ({self.share:.1%}) overlap with the training data"
        for name, score in self.untouched_scores.items():
            value = format_value(score["value"], share=specs[name].share)
            return f"{found}; without them the {name.replace('_', ' ')} is {value} (n = {score['n']})."
        return f"{found}."


class TrainingNgrams:
    """The word n-grams of training conversations, for every n up to `ngram`, as 64-bit hashes.

    Two different n-grams have the same hash with a probability of about 1e-12 in a million, so a touched item is
    practically never a collision. Raises EvalError for an `ngram` below 1.
    """

    def __init__(self, examples: Sequence[Example], ngram: int) -> None:
        check_ngram(ngram)
        self.ngram = ngram
        self._ids: dict[str, int] = {}
        texts = [self._hashes(question(example.messages)) for example in examples]
        self._words = _concatenated(texts)
        self._texts = np.repeat(np.arange(len(texts)), [len(text) for text in texts])  # each word's conversation
        self._rolling = [self._words]  # by length - 1, the hash of the n-gram that starts at each word
        self._sorted: dict[int, Hashes] = {}

    def touched(self, items: Sequence[Item[Any]]) -> frozenset[str]:
        """The ids of the items that overlap with the training conversations."""
        by_length: dict[int, list[tuple[str, Hashes]]] = {}
        for item in items:
            hashes = self._hashes(item.text)
            length = min(len(hashes), self.ngram)
            if length:
                by_length.setdefault(length, []).append((item.id, hashes))
        found: set[str] = set()
        for length, members in by_length.items():
            grams = [_roll(hashes, length) for _, hashes in members]
            owners = np.repeat(np.arange(len(grams)), [len(each) for each in grams])
            hits = owners[_contained(_concatenated(grams), self._of_length(length))]
            found.update(members[i][0] for i in np.unique(hits))
        return frozenset(found)

    def _hashes(self, text: str) -> Hashes:
        ids = self._ids
        for word in (found := words(text)):
            if word not in ids:
                ids[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return np.array([ids[word] for word in found], np.uint64)

    def _of_length(self, length: int) -> Hashes:
        """All n-grams of this length within a conversation, sorted."""
        if length > len(self._words):
            return _concatenated([])
        if length not in self._sorted:
            while len(self._rolling) < length:
                self._rolling.append(_longer(self._rolling[-1], self._words))
            inside = self._texts[: len(self._texts) - length + 1] == self._texts[length - 1 :]
            self._sorted[length] = np.sort(self._rolling[length - 1][inside])
        return self._sorted[length]


def check_ngram(ngram: int) -> None:
    """Raise EvalError for an n below 1."""
    if ngram < 1:
        raise EvalError(f"contamination.ngram must be at least 1, not {ngram}; contamination=null switches it off.")


def contaminations(
    tasks: Mapping[str, Task[Any]],
    examples: Sequence[Example],
    results: Mapping[str, Result],
    training: TrainingNgrams,
    *,
    seed: int = 0,
) -> dict[str, Contamination]:
    """Check all tasks that have run and have scores; `examples` is the test split that they were given."""
    return {
        name: contamination_of(tasks[name].items(examples), result, training, seed=seed)
        for name, result in results.items()
        if result.error is None and result.specs
    }


def contamination_of(
    items: Sequence[Item[Any]], result: Result, training: TrainingNgrams, *, seed: int = 0
) -> Contamination:
    """Compare a task's items with the training data, and score the result again without those that overlap."""
    touched = training.touched(items)
    untouched = tuple(record for record in result.records if record.item not in touched)
    metrics = replace(result, records=untouched).metrics() if touched else {}
    scores = {
        name: metric.score(seed=seed).as_json()
        for (group, name), metric in metrics.items()
        if group is None and metric.n
    }
    return Contamination(training.ngram, len(items), touched, scores)


def with_notes(results: Mapping[str, Result], found: Mapping[str, Contamination]) -> dict[str, Result]:
    """The results, with a note on each task that has touched items."""
    return {
        name: replace(result, notes=(*result.notes, note))
        if name in found and (note := found[name].note(name, result.specs))
        else result
        for name, result in results.items()
    }


def _roll(hashes: Hashes, length: int) -> Hashes:
    rolled = hashes
    for _ in range(length - 1):
        rolled = _longer(rolled, hashes)
    return rolled


def _longer(rolled: Hashes, hashes: Hashes) -> Hashes:
    """The hashes of n-grams that are one word longer; their last word is the newest."""
    added = len(hashes) - len(rolled) + 1
    return rolled[:-1] * _BASE + hashes[added:]


def _contained(hashes: Hashes, ordered: Hashes) -> NDArray[np.bool_]:
    """Which hashes are in a sorted array."""
    if not len(ordered):
        return np.zeros(len(hashes), np.bool_)
    places = np.searchsorted(ordered, hashes)
    return ordered[np.minimum(places, len(ordered) - 1)] == hashes


def _concatenated(arrays: Sequence[Hashes]) -> Hashes:
    return np.concatenate(arrays) if arrays else np.empty(0, np.uint64)
