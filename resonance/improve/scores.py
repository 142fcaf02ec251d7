"""Reads what `resonance eval` wrote: the paired differences of two checkpoints, and the answers of both."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVAL_FILE = "eval.json"


@dataclass(frozen=True, slots=True)
class Compared:
    """One score of the candidate (`after`) and of the checkpoint in service (`before`), on the same `n` items.

    `difference` is after minus before, `ci95` its interval, `p` the two-sided p-value of the paired test; those of
    families are adjusted for their number (Holm).
    """

    task: str
    metric: str
    before: float | None
    after: float
    difference: float
    ci95: tuple[float, float]
    p: float
    n: int
    higher_is_better: bool

    @property
    def is_family(self) -> bool:
        """Whether it is the score of one family of questions."""
        return "by_family." in self.metric

    @property
    def gain(self) -> float:
        """The difference in the direction that is better."""
        return self.difference if self.higher_is_better else -self.difference

    @property
    def worse(self) -> bool:
        """Whether it is worse beyond its interval; of a family, also after the adjustment."""
        low, high = self.ci95
        beyond = high < 0 if self.higher_is_better else low > 0
        return beyond and (not self.is_family or self.p < 0.05)

    def as_json(self) -> dict[str, object]:
        """The figures, for the journal."""
        return {
            "task": self.task, "metric": self.metric, "before": self.before, "after": self.after,
            "difference": self.difference, "ci95": list(self.ci95), "p": self.p, "n": self.n,
            "higher_is_better": self.higher_is_better,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Compared":
        """What `as_json` made."""
        low, high = values["ci95"]
        fields: dict[str, Any] = {**values, "ci95": (low, high)}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Answers:
    """A held-out question with the answers of both checkpoints, and what people said is right."""

    question: str
    expected: str
    before: str
    after: str
    before_right: bool
    after_right: bool


def read_comparison(folder: Path, other: str) -> list[Compared]:
    """All scores of an evaluation with their differences from the checkpoint `other`."""
    document = json.loads((folder / EVAL_FILE).read_text(encoding="utf-8"))
    before = json.loads((_of_other(folder, other) / EVAL_FILE).read_text(encoding="utf-8"))["tasks"]
    found: list[Compared] = []
    for task, differences in document["comparisons"].get(other, {}).items():
        specs = document["provenance"][task]["metrics"]
        for metric, difference in differences.items():
            after = _value(document["tasks"][task], metric)
            if after is None:
                continue
            found.append(
                Compared(
                    task,
                    metric,
                    _value(before.get(task, {}), metric),
                    after,
                    float(difference["difference"]),
                    (float(difference["ci95"][0]), float(difference["ci95"][1])),
                    float(difference["p"]),
                    int(difference["n"]),
                    _higher_is_better(specs, metric),
                )
            )
    return found


def reused_scores(folder: Path, other: str) -> dict[str, dict[str, str]]:
    """The tasks whose scores of the checkpoint `other` come from an earlier evaluation: from which folder, and when."""
    document = json.loads((_of_other(folder, other) / EVAL_FILE).read_text(encoding="utf-8"))
    return {
        task: {"from": str(entry["reused_from"]), "measured_at": str(entry["created_at"])}
        for task, entry in document["provenance"].items()
        if "reused_from" in entry
    }


def evaluations_of(run: Path, others: Sequence[Path]) -> list[Path]:
    """Folders with scores of `run`: its own, and those of the runs `others` that were compared with it."""
    folders = [run, *(_of_other(other, run.name) for other in others)]
    return [folder for folder in folders if (folder / EVAL_FILE).is_file()]


def read_answers(folder: Path, other: str, task: str) -> list[Answers]:
    """The answers of the candidate and of the checkpoint `other` to each question of a task, in their order."""
    before = {record["item"]: record for record in _records(_of_other(folder, other) / "eval" / f"{task}.jsonl")}
    return [
        Answers(
            str(record.get("question", "")),
            str(record.get("expected", "")),
            str(before[record["item"]].get("answer") or ""),
            str(record.get("answer") or ""),
            before[record["item"]].get("correct") is True,
            record.get("correct") is True,
        )
        for record in _records(folder / "eval" / f"{task}.jsonl")
        if record["item"] in before
    ]


def _of_other(folder: Path, other: str) -> Path:
    """Where `resonance eval` keeps the scores of the checkpoint that it compares with."""
    return folder / "eval" / "compare" / other.replace("/", "-")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
        if line:
            yield json.loads(line)


def _value(scores: dict[str, Any], metric: str) -> float | None:
    group, _, name = metric.partition(".")
    node = scores.get(group, {}).get(name) if name else scores.get(metric)
    return float(node["value"]) if isinstance(node, dict) and "value" in node else None


def _higher_is_better(specs: dict[str, Any], metric: str) -> bool:
    """The direction of a metric; families have that of the metric that they are grouped by."""
    if metric in specs:
        return bool(specs[metric]["higher_is_better"])
    grouped = [spec for spec in specs.values() if spec.get("by_group")]
    return bool(grouped[0]["higher_is_better"]) if grouped else True
