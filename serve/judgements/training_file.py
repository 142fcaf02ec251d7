"""The file that `resonance feedback export` writes and `data=feedback` reads: one judgement a line, as JSON.

Every line has `kind` (example, pair, vote), `split`, and where it comes from: `origin`, `owner` (its name; `owner_id`
stays the same when the name changes), `conversation`, `id`, `at` and `answered_by`. An example has `messages`; a pair
`prompt`, `chosen` and `rejected`; a vote `prompt`, `completion` and `label`, as the formats of training data are.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resonance.atomic_files import write_text_atomically
from serve.api.schemas.feedback import ExampleTurn
from serve.api.schemas.responses import rfc3339
from serve.judgements.agreement import Agreement, agreement
from serve.judgements.judgement import Judgement, Split, split_of
from serve.judgements.screening import Screening
from serve.judgements.settle import settle

HELD_OUT = "asks what a held-out conversation asks"
SCREENED = "holds a secret or personal data: {}"


@dataclass(slots=True)
class TrainingFile:
    """The judgements to write with their splits, how many are left out for each reason, and how well people agree."""

    lines: list[tuple[Split, Judgement]] = field(default_factory=list[tuple[Split, Judgement]])
    left_out: Counter[str] = field(default_factory=Counter[str])
    agreement: Agreement | None = None

    def counts(self) -> dict[str, Counter[str]]:
        """By split: how many of each kind."""
        counts: dict[str, Counter[str]] = {}
        for split, judgement in self.lines:
            counts.setdefault(split, Counter())[judgement.kind] += 1
        return counts


def make_training_file(
    judgements: Sequence[Judgement], screening: Screening | None, *, test: float, validation: float
) -> TrainingFile:
    """Screen, settle and split judgements; `test` and `validation` are shares of the conversations."""
    made = TrainingFile()
    clean: list[Judgement] = []
    for one in judgements:
        found = [] if screening is None else screening.findings(_texts(one))
        if found:
            made.left_out[SCREENED.format(", ".join(found))] += 1
        else:
            clean.append(one)
    made.agreement = agreement(clean)
    settled = settle(clean)
    made.left_out += settled.left_out
    split: list[tuple[Split, Judgement]] = [(split_of(one, test, validation), one) for one in settled.kept]
    asked = {one.prompt_key for name, one in split if name == "test"}
    for name, one in split:
        if name != "test" and one.prompt_key in asked:
            made.left_out[HELD_OUT] += 1
        else:
            made.lines.append((name, one))
    return made


def write_training_file(path: Path, made: TrainingFile, owners: Mapping[str, str]) -> None:
    """Write the lines; `owners` are the owners' names by id, others are written as their ids."""
    lines = (json.dumps(_line(split, one, owners), ensure_ascii=False) for split, one in made.lines)
    write_text_atomically(path, "".join(f"{line}\n" for line in lines), mode=0o600)


def _line(split: Split, one: Judgement, owners: Mapping[str, str]) -> dict[str, Any]:
    origin = {
        "kind": one.kind,
        "split": split,
        "origin": one.origin,
        "owner": owners.get(one.owner, one.owner),
        "owner_id": one.owner,
        "conversation": one.conversation,
        "id": one.id,
        "at": rfc3339(one.at),
        "answered_by": one.answered_by,
    }
    turns, prompt = _turns(one.turns), _turns(one.turns[:-1])
    match one.kind:
        case "example":
            return {**origin, "messages": turns}
        case "pair":
            rejected = [{"role": "assistant", "content": one.rejected}]
            return {**origin, "prompt": prompt, "chosen": turns[-1:], "rejected": rejected}
        case _:
            return {**origin, "prompt": prompt, "completion": turns[-1:], "label": one.good}


def _turns(turns: Iterable[ExampleTurn]) -> list[dict[str, Any]]:
    return [turn.model_dump(exclude_none=True) for turn in turns]


def _texts(one: Judgement) -> list[str]:
    return [*(turn.content for turn in one.turns), *([one.rejected] if one.rejected else [])]
