"""Removes repeated judgements, and settles contradictory ones of the same prompt, or leaves them out.

Of one owner, the newest judgement of an answer counts. Between owners the majority counts; without one, the judgements
are left out. Contradictory are: thumbs up and down for the same answer, two pairs in opposite order, and different
corrections of the answer to one prompt.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from serve.judgements.judgement import Judgement, normalised

REPEATED = "repeats an earlier judgement"
SUPERSEDED = "the same person judged it differently later"
OUTVOTED = "more people judged it otherwise"
UNSETTLED = "as many people judged it otherwise"


@dataclass(slots=True)
class Settled:
    """The judgements that stay, in their order, and how many are left out for each reason."""

    kept: list[Judgement] = field(default_factory=list[Judgement])
    left_out: Counter[str] = field(default_factory=Counter[str])


def settle(judgements: Sequence[Judgement]) -> Settled:
    """Settle all judgements of all owners."""
    reasons: dict[int, str] = {}
    indexed = list(enumerate(judgements))

    def of(kind: str, origin: str | None = None) -> list[tuple[int, Judgement]]:
        return [each for each in indexed if each[1].kind == kind and origin in (None, each[1].origin)]

    # Each: what the judgements are about, and what each says of it.
    _settle(of("vote"), _answer, lambda one: one.good, reasons)
    _settle(of("pair"), _both, lambda one: normalised(one.answer), reasons)
    _settle(of("example", "correction"), lambda one: one.prompt_key, lambda one: normalised(one.answer), reasons)
    # What is left of them decides on the answers that are learned because somebody approved of them.
    bad = {_answer(one) for index, one in of("vote") if not one.good and index not in reasons}
    for index, one in of("example", "approval"):
        if _answer(one) in bad:
            reasons[index] = OUTVOTED
    settled = Settled()
    seen: set[Hashable] = set()
    for index, one in indexed:
        key = (one.kind, one.prompt_key, normalised(one.answer), normalised(one.rejected or ""), one.good)
        reason = reasons.get(index) or (REPEATED if key in seen else None)
        if reason is None:
            seen.add(key)
            settled.kept.append(one)
        else:
            settled.left_out[reason] += 1
    return settled


def _answer(one: Judgement) -> Hashable:
    return one.prompt_key, normalised(one.answer)


def _both(one: Judgement) -> Hashable:
    return one.prompt_key, frozenset((normalised(one.answer), normalised(one.rejected or "")))


def _settle(
    judgements: Sequence[tuple[int, Judgement]],
    subject: Callable[[Judgement], Hashable],
    verdict: Callable[[Judgement], Hashable],
    reasons: dict[int, str],
) -> None:
    """Add a reason for each judgement that another one of the same subject overrides."""
    of_subject: defaultdict[Hashable, list[tuple[int, Judgement]]] = defaultdict(list)
    for index, one in judgements:
        of_subject[subject(one)].append((index, one))
    for group in of_subject.values():
        newest: dict[str, tuple[int, Judgement]] = {}
        for index, one in sorted(group, key=lambda each: each[1].at):
            newest[one.owner] = (index, one)
        counts = Counter(verdict(one) for _, one in newest.values())
        most = max(counts.values())
        winners = [said for said, count in counts.items() if count == most]
        for index, one in group:
            said, own = verdict(one), verdict(newest[one.owner][1])
            if len(winners) > 1:
                if said != own:
                    reasons[index] = SUPERSEDED
                else:
                    reasons[index] = UNSETTLED
            elif said != winners[0]:
                reasons[index] = SUPERSEDED if said != own else OUTVOTED
