"""What a checkpoint records about itself: the content of `resonance.json`."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from hashlib import sha256

from resonance.fingerprint import Fingerprint

LAST_FOLDER, KEPT_FOLDER = "last", "kept"  # inside a run's folder: its newest weights; its best, each in one
_LIST_OF_NUMBERS = re.compile(r"\[(?:\n *-?[\d.eE+-]+,?)+\n *\]")  # of `json.dumps`, whose strings hold no line breaks


@dataclass(frozen=True, slots=True)
class Monitor:
    """The score that selects a run's best weights."""

    name: str
    value: float
    mode: str = "min"

    def better_than(self, other: "Monitor | None") -> bool:
        """Whether this value is better than another of the same name."""
        if other is None or other.name != self.name:
            return other is None
        return self.value < other.value if self.mode == "min" else self.value > other.value


@dataclass(frozen=True, slots=True)
class LastWeights:
    """A run's newest weights, in a folder inside the run's."""

    steps: int
    tokens_seen: int
    value: float | None  # of the monitored score at that step; None: not measured
    folder: str = LAST_FOLDER


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of `resonance verify` where every claim that it could check held."""

    at: str
    by: str  # the version of this package, and its commit
    claims: list[str]
    weights_sha256: str
    scores_sha256: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """`resonance.json`: what the weights are, their provenance and their scores."""

    template: str = "alpaca"
    base: str | None = None  # the weights that training started from; None: random
    base_sha256: str | None = None
    data: str | None = None
    data_fingerprint: str | None = None
    config_sha256: str | None = None
    git_commit: str | None = None
    seed: int | None = None
    steps: int = 0
    tokens_seen: int = 0
    trained_length: int | None = None  # tokens of the longest conversation in training, the base's included
    adapter: dict[str, object] | None = None  # what was trained over the base; merged into the weights
    monitor: Monitor | None = None
    weights: str | None = None  # `best` by the monitored score, `last`, or `kept` among the best
    last: LastWeights | None = None
    training: dict[str, object] = field(default_factory=dict[str, object])  # command, precision, hardware, ...
    resumes: list[dict[str, object]] = field(default_factory=list[dict[str, object]])  # time, step, changes
    scores: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    fingerprint: Fingerprint | None = None  # of the files beside it; None: saved before there were fingerprints
    verified: Verified | None = None  # read `is_verified` instead, which knows whether it is of the present state
    created_at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Parse `resonance.json`; unknown keys, of later versions, are ignored.

        Raises ValueError, KeyError or TypeError.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError(f"an object was expected, not {text.strip()[:20]!r}")
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        if known.get("monitor"):
            known["monitor"] = Monitor(**known["monitor"])
        if known.get("last"):
            known["last"] = LastWeights(**known["last"])
        if known.get("fingerprint"):
            known["fingerprint"] = Fingerprint.from_json(known["fingerprint"])
        if known.get("verified"):
            known["verified"] = Verified(**known["verified"])
        return cls(**known)

    def to_json(self) -> str:
        """Return the text of `resonance.json`; a list of numbers stands on one line."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        return _LIST_OF_NUMBERS.sub(_on_one_line, text) + "\n"

    @property
    def is_verified(self) -> bool:
        """Whether `verified` is of these weights and these scores."""
        verified, fingerprint = self.verified, self.fingerprint
        return (
            verified is not None
            and fingerprint is not None
            and verified.weights_sha256 == fingerprint.weights_sha256
            and verified.scores_sha256 == scores_sha256(self.scores)
        )


def _on_one_line(numbers: re.Match[str]) -> str:
    return re.sub(r"\n *", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]")


def scores_sha256(scores: Mapping[str, Mapping[str, object]]) -> str:
    """Compute the SHA-256 of scores by task, in whatever order they stand."""
    return sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()
