"""Reads what `resonance feedback export` wrote, and selects what is new and what is held out."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resonance.atomic_files import write_text_atomically
from resonance.improve.gate import Feedback
from resonance.improve.objectives import Objective

TEST, TRAIN = "test", "train"
PAIR_ORIGINS = ("siblings", "compare")  # a correction's pair is learned as an example

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FeedbackFile:
    """The judgements of an export; `since` is the newest one that the checkpoint in service has learned from."""

    lines: Sequence[Json]
    since: str | None

    @classmethod
    def read(cls, path: Path, since: str | None) -> "FeedbackFile":
        """Read an export."""
        return cls([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()], since)

    @property
    def until(self) -> str | None:
        """The time of the newest judgement."""
        return max((str(line["at"]) for line in self.lines), default=None)

    @property
    def new(self) -> Sequence[Json]:
        """The judgements since the last promotion."""
        return [line for line in self.lines if self.since is None or line["at"] > self.since]

    @property
    def held_out(self) -> Sequence[Json]:
        """The held-out examples since the last promotion."""
        return [line for line in self.new if line["split"] == TEST and line["kind"] == "example"]

    @property
    def earlier_held_out(self) -> Sequence[Json]:
        """The held-out examples of earlier promotions, which must not become worse."""
        known = {id(line) for line in self.new}
        return [
            line for line in self.lines if line["split"] == TEST and line["kind"] == "example" and id(line) not in known
        ]

    @property
    def examples(self) -> int:
        """The examples to train on, old ones included."""
        return sum(line["split"] == TRAIN and line["kind"] == "example" for line in self.lines)

    @property
    def corrections(self) -> int:
        """The examples to train on that somebody wrote; the others are answers that people approved of."""
        return sum(
            line["split"] == TRAIN and line["kind"] == "example" and line["origin"] == "correction"
            for line in self.lines
        )

    @property
    def thumbs(self) -> Sequence[Json]:
        """The ratings of answers that nobody corrected, all splits."""
        corrected = {(line["owner"], line["id"]) for line in self.lines if line["origin"] == "correction"}
        return [line for line in self.lines if line["kind"] == "vote" and (line["owner"], line["id"]) not in corrected]

    @property
    def held_out_rejections(self) -> Sequence[Json]:
        """The held-out answers since the last promotion that got a thumb down alone, as examples of what was said."""
        new = {id(line) for line in self.new}
        return [
            {**line, "kind": "example", "messages": [*line["prompt"], *line["completion"]]}
            for line in self.thumbs
            if line["split"] == TEST and not line["label"] and id(line) in new
        ]

    @property
    def pairs(self) -> Sequence[Json]:
        """The pairs of rated siblings and comparisons, all splits."""
        return [line for line in self.lines if line["kind"] == "pair" and line["origin"] in PAIR_ORIGINS]

    @property
    def training_pairs(self) -> int:
        """The pairs to train on."""
        return sum(line["split"] == TRAIN for line in self.pairs)

    @property
    def held_out_pairs(self) -> Sequence[Json]:
        """The held-out pairs since the last promotion that answer a single question, as `resonance eval` reads them."""
        new = {id(line) for line in self.new}
        return [
            {
                "question": line["prompt"][0]["content"],
                "choices": [line["chosen"][0]["content"], line["rejected"][0]["content"]],
                "answer": 0,
            }
            for line in self.pairs
            if line["split"] == TEST and id(line) in new and len(line["prompt"]) == 1
        ]

    def bounds(self, production: str, objective: Objective) -> Feedback:
        """What is held out of `objective` can show of a candidate that replaces the run `production`."""
        if objective != "sft":
            held_out = self.held_out_pairs if objective == "dpo" else self.held_out_rejections
            return Feedback(len(held_out), len(held_out))
        held_out = self.held_out
        known_right = sum(line["origin"] == "approval" and line["answered_by"] == production for line in held_out)
        return Feedback(len(held_out), len(held_out) - known_right)

    @property
    def new_judged(self) -> int:
        """The answers and comparisons that were judged since the last promotion; one act can be several judgements."""
        return len({(line["owner"], line["id"]) for line in self.new})

    def counts(self) -> dict[str, dict[str, int]]:
        """How many judgements there are, by split and kind, by origin, by owner, and by who answered."""
        by: dict[str, Callable[[Json], str]] = {
            "splits": lambda line: f"{line['split']} {line['kind']}",
            "origins": lambda line: str(line["origin"]),
            "owners": lambda line: str(line["owner"] or "(nobody)"),
            "answered_by": lambda line: str(line["answered_by"] or "–"),
        }
        return {name: dict(Counter(key(line) for line in self.lines).most_common()) for name, key in by.items()}


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    """Write judgements as JSON lines that the user alone can read; returns the path."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text_atomically(path, text, mode=0o600)
    return path
