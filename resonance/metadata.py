"""What a checkpoint records about itself: the content of `resonance.json`."""

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime

LAST_FOLDER = "last"


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
    weights: str | None = None  # `best` by the monitored score, or `last`
    last: LastWeights | None = None
    training: dict[str, object] = field(default_factory=dict[str, object])  # command, precision, hardware, ...
    resumes: list[dict[str, object]] = field(default_factory=list[dict[str, object]])  # time, step, changes
    scores: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    created_at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Parse `resonance.json`; unknown keys, of later versions, are ignored. Raises ValueError or TypeError."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError(f"an object was expected, not {text.strip()[:20]!r}")
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        if known.get("monitor"):
            known["monitor"] = Monitor(**known["monitor"])
        if known.get("last"):
            known["last"] = LastWeights(**known["last"])
        return cls(**known)

    def to_json(self) -> str:
        """Return the text of `resonance.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
