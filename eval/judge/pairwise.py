"""Compares two answers in both orders, because judges favour a place as much as an answer.

A verdict that changes with the order is a flip, and counts as a tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.judge.client import Reply
from eval.judge.prompts import Rubric
from eval.judge.verdicts import read_choice
from eval.text_metrics import normalise

WIN, TIE, LOSS = 1.0, 0.5, 0.0


def against(label: str) -> str:
    """The group of the metrics of answers against those of `label`."""
    return f"against_{label}"


def win_rate(label: str) -> str:
    """The metric of the verdicts against the answers of `label`."""
    return f"{against(label)}.win_rate"


@dataclass(frozen=True, slots=True)
class Pair:
    """Our answer beside the other side's, to the same question; `expected` is the reference that the judge sees."""

    question: str
    ours: str
    theirs: str
    expected: str | None = None

    def known(self) -> float | None:
        """The outcome that needs no judge: equal answers tie, and any answer beats an empty one. Else None."""
        ours, theirs = normalise(self.ours), normalise(self.theirs)
        if ours == theirs:
            return TIE
        return None if ours and theirs else WIN if ours else LOSS

    def prompts(self, rubric: Rubric) -> tuple[str, str]:
        """The prompts of both orders: our answer first, then theirs first."""
        return (
            rubric.pair(self.question, self.ours, self.theirs, self.expected),
            rubric.pair(self.question, self.theirs, self.ours, self.expected),
        )


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """The outcome for our side: 1 for a win, 0.5 for a tie, 0 for a loss; None if a reply has no verdict.

    `flipped` is None where the judge was not asked, or said nothing.
    """

    won: float | None
    flipped: bool | None = None


def pair_verdict(replies: Sequence[Reply]) -> PairVerdict:
    """The verdict from the replies in both orders, our answer's first one first."""
    ours_first, theirs_first = (read_choice(reply.text) for reply in replies)
    if ours_first is None or theirs_first is None:
        return PairVerdict(None)
    outcomes = ({"A": WIN, "B": LOSS, "TIE": TIE}[ours_first], {"A": LOSS, "B": WIN, "TIE": TIE}[theirs_first])
    flipped = outcomes[0] != outcomes[1]
    return PairVerdict(TIE if flipped else outcomes[0], flipped)
