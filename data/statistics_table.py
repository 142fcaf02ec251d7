"""Words a data set's statistics: the rows of a table, and sentences. Terminal and page show the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from data.example import shown_rows
from data.statistics import PERCENTILES, DataStatistics, SplitStatistics

SHOWN_FAMILIES = 12


def summary_rows(splits: Mapping[str, SplitStatistics], row_length: int) -> Iterator[tuple[str, list[str]]]:
    """The rows of the table of splits: a label, and a text for each split."""
    several = [*splits.values()]
    yield "examples", [f"{s.examples:,}" for s in several]
    yield "in use", [f"{s.used:,}" for s in several]
    yield "tokens", [f"{s.tokens:,}" for s in several]
    yield "supervised tokens", [_share(s.supervised_tokens, s.tokens) for s in several]
    yield "length: shortest", [f"{s.shortest:,}" for s in several]
    for p in PERCENTILES:
        yield f"length: {p}%", [f"{s.percentiles[p]:,}" if p in s.percentiles else "–" for s in several]
    yield "length: longest", [f"{s.longest:,}" for s in several]
    yield "without their oldest turns", [_share(s.shortened, s.used) for s in several]
    yield "cut at the end", [_share(s.cut, s.used) for s in several]
    if any(s.lost_tokens for s in several):
        yield "tokens lost to both", [f"{s.lost_tokens:,}" for s in several]
    yield "end tokens / answers", [f"{s.end_tokens:,} / {s.answers:,}" for s in several]
    yield "without a last end token", [f"{s.without_end:,}" for s in several]
    if any(s.pairs for s in several):
        yield "with a rejected answer", [f"{s.pairs:,}" for s in several]
    yield f"packed rows of {row_length:,}", [f"{s.packed_rows:,}" for s in several]
    yield "filled", [f"{s.filled:.1%}" for s in several]
    for role in dict.fromkeys(role for s in several for role in s.roles):
        yield f"messages: {role}", [f"{s.roles.get(role, 0):,}" for s in several]
    for turns in sorted({turns for s in several for turns in s.turns}):
        yield f"{turns} turn{'s' if turns != 1 else ''}", [f"{s.turns.get(turns, 0):,}" for s in several]
    families = list(dict.fromkeys(family for s in several for family in s.families))
    for family in families[:SHOWN_FAMILIES]:
        yield f"family: {family}", [f"{s.families.get(family, 0):,}" for s in several]
    if more := families[SHOWN_FAMILIES:]:
        yield f"{len(more)} more families", [f"{sum(s.families.get(f, 0) for f in more):,}" for s in several]


def notes(measured: DataStatistics) -> list[str]:
    """One sentence each on rows that cannot be used, skipped ones, strange characters and duplicates."""
    lines = [f"{len(rows):,} unusable: {reason} ({shown_rows(rows)})" for reason, rows in measured.unusable.items()]
    for name, split in measured.splits.items():
        statistics = split.statistics
        for reason, rows in statistics.skipped.items():
            lines.append(f"{name}: {len(rows):,} skipped: {reason} ({shown_rows(rows)})")
        if rows := statistics.unusual_characters:
            lines.append(
                f"{name}: {len(rows):,} with control, invisible or wrongly decoded characters ({shown_rows(rows)})"
            )
    return [
        *lines,
        *(measured.duplicates or ["no training example repeats another, or is asked in validation or test"]),
    ]


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})" if total and count else f"{count:,}"
