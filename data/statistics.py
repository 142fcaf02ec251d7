"""Measures a data set as training would use it: lengths, roles, families, cuts, duplicates, packed rows.

Knows nothing of how the numbers are printed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.duplicates import describe, find_duplicates
from data.example import Example, Splits
from data.packing import pack
from data.tokenize import Tokenized, tokenize
from resonance.chat_template import ChatTemplate

PERCENTILES = (5, 25, 50, 75, 95, 99)
BINS = 12
UNCUT = 1 << 40  # a context length that no example reaches

# Characters that mostly come from broken conversions: U+FFFD, control, invisible and private-use characters, and UTF-8
# that was read as Latin-1 or Windows-1252 (the two characters that an accented letter or a curly quote becomes).
_UNUSUAL = re.compile(
    "[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ue000-\uf8ff]"
    "|Ã[\x80-\xbf]|â€[\x80-\xbf™œ˜“”]"
)


@dataclass(frozen=True, slots=True)
class SplitStatistics:
    """A split as training uses it; lengths are in tokens, rows count from 1 in the source.

    `percentiles` and `longest` are of the lengths before anything is cut; `histogram` has (from, up to, examples).
    `shortened` examples lose their oldest turns, `cut` ones the end of their text, together `lost_tokens`;
    `without_end` ones have no end token after their last answer; `pairs` have a rejected answer too. `answers` are the
    supervised assistant messages of examples in use. `packed_rows` rows are `filled` (a share).
    """

    examples: int
    used: int
    skipped: Mapping[str, Sequence[int]]
    tokens: int
    supervised_tokens: int
    shortest: int
    longest: int
    percentiles: Mapping[int, int]
    histogram: Sequence[tuple[int, int, int]]
    turns: Mapping[int, int]
    roles: Mapping[str, int]
    families: Mapping[str, int]
    shortened: int
    cut: int
    lost_tokens: int
    end_tokens: int
    answers: int
    without_end: int
    pairs: int
    packed_rows: int
    filled: float
    unusual_characters: Sequence[int]


@dataclass(frozen=True, slots=True)
class MeasuredSplit:
    """A split's examples, its statistics, and per example in use its index, uncut length and strangeness.

    indices, lengths: (n,) int64. rarity: (n,) float64, the mean of -log2 p over an example's tokens, where p is a
    token's frequency in the training split: bits per token of a model that knows frequencies only. cut: (n,) bool,
    whether the example lost turns or text.
    """

    examples: Sequence[Example]
    statistics: SplitStatistics
    indices: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rarity: NDArray[np.float64]
    cut: NDArray[np.bool_]

    def select(self, kind: str, count: int, seed: int) -> list[int]:
        """Select examples in use by their index: `random`, `longest`, `shortest`, `strangest` or `cut` ones."""
        if kind == "random":
            chosen = np.random.RandomState(seed).permutation(len(self.indices))[:count]
        elif kind == "cut":
            chosen = np.flatnonzero(self.cut)[:count]
        else:
            key = {"longest": -self.lengths, "shortest": self.lengths, "strangest": -self.rarity}[kind]
            chosen = np.argsort(key, kind="stable")[:count]
        return self.indices[chosen].tolist()


@dataclass(frozen=True, slots=True)
class DataStatistics:
    """All splits of a source by name, empty ones included, and sentences on rows in no split and on duplicates."""

    name: str
    template: str
    context_length: int
    row_length: int
    splits: Mapping[str, MeasuredSplit]
    unusable: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    duplicates: Sequence[str] = ()


def measure(
    name: str, splits: Splits, template: ChatTemplate, *, context_length: int, row_length: int, seed: int = 0
) -> DataStatistics:
    """Tokenise and measure all splits; held-out prompts are skipped in train, as training skips them.

    `seed` is that of packing. Raises DataError when the template cannot represent an example.
    """
    duplicates = find_duplicates(splits)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    uncut: dict[str, Tokenized] = {}
    for split, examples in parts.items():
        held_out: Container[int] = duplicates.held_out if split == "train" else frozenset[int]()
        uncut[split] = tokenize(examples, template, UNCUT, held_out=held_out)
    bits = _bits(uncut["train"].input_ids, template)
    measured: dict[str, MeasuredSplit] = {}
    for split, examples in parts.items():
        whole = uncut[split]
        used = whole
        if int(whole.lengths.max(initial=0)) > context_length:
            held_out = duplicates.held_out if split == "train" else frozenset[int]()
            used = tokenize(examples, template, context_length, held_out=held_out)
        measured[split] = _measure_split(examples, whole, used, bits, template, row_length, seed)
    return DataStatistics(
        name,
        template.name,
        context_length,
        row_length,
        measured,
        splits.unusable,
        describe(duplicates, splits.train),
    )


def _bits(ids: NDArray[np.int32], template: ChatTemplate) -> NDArray[np.float64]:
    """(V,) -log2 of each token's smoothed frequency in `ids`; NaN for special tokens, which every example has."""
    counts = np.bincount(ids, minlength=template.tokenizer.vocab_size) + 1.0
    bits = -np.log2(counts / counts.sum())
    bits[list(template.tokenizer.special_tokens.values())] = np.nan
    return bits


def _measure_split(
    examples: Sequence[Example],
    whole: Tokenized,
    used: Tokenized,
    bits: NDArray[np.float64],
    template: ChatTemplate,
    row_length: int,
    seed: int,
) -> MeasuredSplit:
    uncut_lengths = whole.lengths
    position = np.searchsorted(whole.indices, used.indices)  # of the used examples among the uncut ones
    lengths = uncut_lengths[position]
    rows = len(pack(used.lengths, row_length, f"{seed}/0")) if len(used) else 0
    last = used.labels[used.offsets[1:] - 1] if len(used) else np.empty(0, np.int32)
    in_use = [examples[i] for i in used.indices.tolist()]
    roles: Counter[str] = Counter()
    for example in in_use:
        roles.update(message.role for message in example.messages)
        roles["context"] += sum(message.context is not None for message in example.messages)
    report = used.report
    statistics = SplitStatistics(
        examples=len(examples),
        used=len(used),
        skipped=report.skipped_rows,
        tokens=report.tokens,
        supervised_tokens=report.supervised_tokens,
        shortest=int(lengths.min()) if len(lengths) else 0,
        longest=int(lengths.max(initial=0)),
        percentiles={p: int(np.percentile(lengths, p, method="nearest")) for p in PERCENTILES} if len(lengths) else {},
        histogram=_histogram(lengths),
        turns=dict(sorted(Counter(sum(m.role == "user" for m in e.messages) for e in in_use).items())),
        roles={role: count for role, count in roles.most_common() if count},
        families=dict(Counter(e.family for e in in_use if e.family is not None).most_common()),
        shortened=report.shortened,
        cut=report.cut,
        lost_tokens=int((lengths - used.lengths).sum()),
        end_tokens=int((used.labels == template.end_id).sum()),
        answers=roles["assistant"],
        without_end=int((last != template.end_id).sum()),
        pairs=sum(example.rejected is not None for example in in_use),
        packed_rows=rows,
        filled=report.tokens / (rows * row_length) if rows else 0.0,
        unusual_characters=[
            example.row or i + 1
            for i, example in enumerate(examples)
            if any(_UNUSUAL.search(f"{m.content}\n{m.context or ''}") for m in example.messages)
        ],
    )
    return MeasuredSplit(
        examples, statistics, used.indices, lengths, _rarity(whole, bits)[position], lengths > used.lengths
    )


def _rarity(data: Tokenized, bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) mean bits per token of each example, special tokens left out."""
    if not len(data):
        return np.empty(0)
    each = bits[data.input_ids]
    counted = np.add.reduceat((~np.isnan(each)).astype(np.int64), data.offsets[:-1])
    return np.add.reduceat(np.nan_to_num(each), data.offsets[:-1]) / np.maximum(counted, 1)


def _histogram(lengths: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Bins of equal width in whole tokens, from the shortest to the longest example."""
    if not len(lengths):
        return []
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // BINS)
    counts = np.bincount((lengths - low) // width)
    return [(low + i * width, low + (i + 1) * width - 1, int(count)) for i, count in enumerate(counts.tolist())]
