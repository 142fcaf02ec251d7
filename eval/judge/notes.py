"""What readers of a judge's scores need to know of the judge: its name, its cost, whether it tells answers apart."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from eval.judge.endpoint import Endpoint
from eval.judge.verdicts import read_grade
from eval.statistics import mcnemar
from eval.tasks.base import Record

_FEW = 10  # fewer verdicts say nothing about the judge
_SAME_GRADE = 0.9
_FLIPS = 0.5


def judge_notes(records: Sequence[Record], endpoint: Endpoint) -> list[str]:
    """Sentences from the records alone."""
    replies = [reply for _, reply in _replies(records)]
    return [
        *_identity(replies, reported_models(records), endpoint),
        *_unread(records, replies),
        *_same_grades(records),
        *_agreement(records),
        *(note for label in _labels(records) for note in _pairs(records, label)),
    ]


def reported_models(records: Sequence[Record]) -> set[str]:
    """The models that the endpoint says replied."""
    return {str(reply["model"]) for _, reply in _replies(records) if "refusal" not in reply}


def _replies(records: Sequence[Record]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """All replies, with what was asked."""
    for record in records:
        told = record.details.get("judge")
        for name, replies in told.items() if isinstance(told, dict) else ():
            for reply in replies:
                yield str(name), reply


def _identity(replies: Sequence[Mapping[str, object]], models: set[str], endpoint: Endpoint) -> list[str]:
    if not replies:
        return []
    read, written = (sum(_number(reply, name) for reply in replies) for name in ("prompt_tokens", "completion_tokens"))
    tokens = f", which read {read:,} tokens and wrote {written:,}" if read else ""
    notes = [f"The judge is {', '.join(sorted(models))} at {endpoint.url}: {len(replies)} replies{tokens}."]
    if len(models) > 1:
        notes.append(f"{len(models)} different models replied, so the grades are not of one judge.")
    return notes


def _unread(records: Sequence[Record], replies: Sequence[Mapping[str, object]]) -> list[str]:
    notes: list[str] = []
    refused = [str(reply["refusal"]) for reply in replies if "refusal" in reply]
    if refused:
        notes.append(f"The endpoint refused {len(refused)} of {len(replies)} requests, the first with: {refused[0]}")
    unread = [
        [
            reply
            for name, reply in _replies([record])
            if metric == ("unreadable" if name == "grade" else f"{name}.unreadable")
        ]
        for record in records
        for metric, (count, _) in record.observations.items()
        if count and metric.rpartition(".")[2] == "unreadable"
    ]
    if unread:
        cut = sum(any(reply.get("finish_reason") == "length" for reply in verdict) for verdict in unread)
        hint = f"; {cut} were cut at the token limit, raise task.judge.max_tokens" if cut else ""
        notes.append(
            f"{len(unread)} verdicts could not be read from the replies and are left out, not counted as 0{hint}."
        )
    return notes


def _same_grades(records: Sequence[Record]) -> list[str]:
    grades = Counter(
        record.observations["grade"][0]
        for record in records
        if "grade" in record.observations and "unreadable" in record.observations  # the judge gave it
    )
    if grades.total() < _FEW:
        return []
    ((grade, count),) = grades.most_common(1)
    if count < _SAME_GRADE * grades.total():
        return []
    return [
        f"The judge gave the grade {grade:g} to {count} of {grades.total()} answers: it does not tell answers apart, "
        "so the grades carry no information."
    ]


def _agreement(records: Sequence[Record]) -> list[str]:
    """How far the grades of one answer are apart, where the judge was asked several times."""
    graded: list[list[float]] = []
    for record in records:
        texts = [str(reply.get("text", "")) for name, reply in _replies([record]) if name == "grade"]
        graded.append([grade for text in texts if (grade := read_grade(text)) is not None])
    spreads = [max(grades) - min(grades) for grades in graded if len(grades) > 1]
    if not spreads:
        return []
    times = max(map(len, graded))
    return [
        f"Asked {times} times, the judge's grades of the same answer lie {fmean(spreads):.1f} points apart on average, "
        f"and are the same for {spreads.count(0)} of {len(spreads)} answers."
    ]


def _labels(records: Sequence[Record]) -> list[str]:
    """What the answers were compared with: the metrics' prefixes, in order."""
    names = (name.rpartition(".") for record in records for name in record.observations)
    return list(dict.fromkeys(prefix for prefix, _, metric in names if metric == "win_rate"))


def _pairs(records: Sequence[Record], prefix: str) -> Iterator[str]:
    won = [
        record.observations[f"{prefix}.win_rate"][0]
        for record in records
        if f"{prefix}.win_rate" in record.observations
    ]
    flips = [
        record.observations[f"{prefix}.flip_rate"][0]
        for record in records
        if f"{prefix}.flip_rate" in record.observations
    ]
    wins, ties, losses = (won.count(outcome) for outcome in (1.0, 0.5, 0.0))
    flipped = int(sum(flips))
    name = prefix.replace("_", " ", 1)
    yield (
        f"{name}: {wins} wins, {ties} ties ({flipped} of them because the verdict changed with the order), "
        f"{losses} losses; sign test p = {mcnemar(wins, losses):.3f}."
    )
    if len(flips) >= _FEW and flipped >= _FLIPS * len(flips):
        yield (
            f"{name}: the verdict changed with the order in {flipped} of {len(flips)} pairs: the judge prefers a place "
            "to an answer, so the win rate carries little information."
        )


def _number(reply: Mapping[str, object], name: str) -> int:
    value = reply.get(name)
    return value if isinstance(value, int) else 0
