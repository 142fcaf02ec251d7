"""Counts the blind votes on a shadow's pairs, as evidence on the candidate for the gate of `resonance improve`."""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from serve.judgements.collect import vote_rows
from serve.storage.store import Store
from serve.storage.tables import VoteRow

NAME = "blind votes"
ALPHA = 0.05  # of the two-sided test
MIN_VOTES = 6  # the fewest decided ones that can be significant at ALPHA: 2 / 2**6 = 0.031
COMPARED = "on answers of a comparison, not of a shadow"
UNKNOWN = "their pairs do not say which weights answered"
OTHERS = "on answers of other checkpoints"
NOT_AGREED = "their owners have not agreed to training"
REPEATED = "on a question and answers that their owner voted on again"


class WeightsError(ResonanceError):
    """Weights that no vote can be assigned to."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A run, and the checksum of its weights, which identifies them."""

    run: str
    crc32: str


@dataclass(slots=True)
class Votes:
    """How many votes were for the candidate, against it, and ties; how many owners cast them; what was left out."""

    won: int = 0
    lost: int = 0
    ties: int = 0
    owners: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])

    @property
    def decided(self) -> int:
        """The votes that are no ties."""
        return self.won + self.lost


@dataclass(frozen=True, slots=True)
class Evidence:
    """An entry of a file for `gate.evidence`; `passed` is None where too few votes show nothing."""

    passed: bool | None
    sentence: str
    candidate: Weights
    against: Weights
    votes: Votes

    def as_json(self) -> dict[str, Any]:
        """The entry."""
        votes = {key: getattr(self.votes, key) for key in ("won", "lost", "ties", "owners")}
        return {
            "name": NAME,
            "passed": self.passed,
            "sentence": self.sentence,
            "candidate": asdict(self.candidate),
            "against": asdict(self.against),
            "votes": {**votes, "left_out": dict(self.votes.left_out)},
        }


def weights_of(name: str, root: Path | None) -> Weights:
    """Find a run, or what an alias names, in the folder of the runs. Raises CheckpointError and WeightsError."""
    checkpoint = Checkpoint.find(name, root)
    if checkpoint.crc32 is None:
        raise WeightsError(
            f"The weights of {name} carry no checksum, so that no vote can be assigned to them; only a run's do."
        )
    return Weights(checkpoint.name, checkpoint.crc32)


async def count_votes(
    store: Store, owners: Iterable[str], agreed: Collection[str], candidate: Weights, against: Weights
) -> Votes:
    """Count the votes of owners who agreed, on pairs of these two; of an owner's votes on one pair, the newest.

    Raises StoreUnavailable.
    """
    votes = Votes()
    for owner in owners:
        seen: set[bytes] = set()  # the pairs
        async for row in vote_rows(store, owner):  # newest first
            pair = _pair(row)
            if reason := _unfit(row, {candidate.crc32, against.crc32}):
                votes.left_out[reason] += 1
            elif owner not in agreed:
                votes.left_out[NOT_AGREED] += 1
            elif pair in seen:
                votes.left_out[REPEATED] += 1
            else:
                seen.add(pair)
                _count(votes, row, candidate)
        votes.owners += bool(seen)
    return votes


def evidence_of(votes: Votes, candidate: Weights, against: Weights, min_votes: int = 10) -> Evidence:
    """Test whether the share of decided votes for the candidate differs from one half: the exact binomial (sign) test.

    The evidence speaks against the candidate only if it lost more votes than it won, and p is at most ALPHA. Votes are
    taken to be independent. The interval is Clopper and Pearson's (1934), which agrees with the test.
    """
    people = "1 person" if votes.owners == 1 else f"{votes.owners} people"
    total = votes.decided + votes.ties
    counts = (
        f"{total} blind vote{'s' * (total != 1)} by {people}, {votes.ties} of them ties: {candidate.run} won "
        f"{votes.won} and lost {votes.lost} against {against.run}"
    )
    if votes.decided < min_votes:
        needed = f"at least {min_votes} decided votes are needed"
        sentence = f"{counts}. These are too few to count as evidence either way; {needed}."
        return Evidence(None, sentence, candidate, against, votes)
    test = binomtest(votes.won, votes.decided)
    low, high = test.proportion_ci(confidence_level=1 - ALPHA, method="exact")
    p = float(test.pvalue)
    worse = votes.won < votes.lost and p <= ALPHA
    found = "no clear preference" if p > ALPHA else f"people prefer {against.run if worse else candidate.run}"
    share = f"{votes.won / votes.decided:.0%} (95% interval {low:.0%} to {high:.0%})"
    sentence = f"{counts}, a share of {share}, exact binomial test p = {p:.3g}: {found}."
    return Evidence(not worse, sentence, candidate, against, votes)


def _unfit(row: VoteRow, wanted: Collection[str]) -> str | None:
    """Why a vote is not on a pair of these weights; None where it is."""
    if row.conversation_id is None:
        return COMPARED
    sides = {row.a.get("crc32"), row.b.get("crc32")}
    if None in sides:
        return UNKNOWN
    return None if sides == wanted else OTHERS


def _count(votes: Votes, row: VoteRow, candidate: Weights) -> None:
    if row.choice == "tie":
        votes.ties += 1
    elif (row.a if row.choice == "a" else row.b)["crc32"] == candidate.crc32:
        votes.won += 1
    else:
        votes.lost += 1


def _pair(row: VoteRow) -> bytes:
    """Identifies a question with its two answers, in either order."""
    sides = sorted([str(side.get("crc32")), str(side["content"])] for side in (row.a, row.b))
    return sha256(json.dumps([row.prompt, sides]).encode()).digest()
