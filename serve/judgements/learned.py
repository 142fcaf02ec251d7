"""Which judgements of an owner are in which checkpoint, by the records that `resonance improve` keeps."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from resonance.aliases import Alias, read_aliases
from resonance.improve.journal import EXPORT_FILE, HELD_OUT_EVAL, Attempt, attempts
from resonance.improve.scores import Answers, read_answers

SHOWN_CHECKPOINTS = 20
SHOWN_ANSWERS = 30
RESOLUTION = timedelta(milliseconds=1)  # of the times in an export
TURN_BREAK = "\n→ "  # between the turns of a conversation in the records of `resonance eval`
_OBJECTIVES = {"example": "sft", "pair": "dpo", "vote": "kto"}  # that learn from a line of this kind
Use = Literal["trained", "measured", "inherited"]
State = Literal["in_service", "replaced", "not_promoted"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """A checkpoint that `resonance improve` trained, and the lines of one owner in what its attempt gathered."""

    attempt: Attempt
    state: State
    lines: Sequence[Json]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.attempt.name

    @property
    def parent(self) -> str:
        """The run that it was trained from."""
        return self.attempt.production[0]

    def used_lines(self) -> Iterator[tuple[Json, Use]]:
        """The lines that its training learned from, or that measured it."""
        objectives = (self.attempt.figures("train") or {}).get("objectives", [])
        # A correction is learned as an example; its pair and its thumb down are not.
        corrected = {line["id"] for line in self.lines if line["origin"] == "correction"}
        for line in self.lines:
            kind = line["kind"]
            is_learned = kind == "example" or line["id"] not in corrected
            if is_learned and _OBJECTIVES[kind] in objectives:
                yield line, "trained" if line["split"] == "train" else "measured"

    def changed_answers(self) -> list[Answers]:
        """The owner's held-out questions with the answers before and after, those that changed first."""
        try:
            found = read_answers(self.attempt.folder / HELD_OUT_EVAL, self.parent, "instruct")
        except (OSError, ValueError, LookupError):
            return []  # it was not evaluated
        own = [
            (TURN_BREAK.join(_turn(turn) for turn in line["messages"][:-1] if turn["role"] != "system"), answer)
            for line in self.lines
            if line["kind"] == "example" and line["split"] == "test"
            for answer in [line["messages"][-1]["content"].strip()]
        ]
        mine = [
            one
            for one in found  # whose question is the end of a conversation, where that does not fit into the window
            if one.question
            and any(asked.endswith(one.question) and said == one.expected.strip() for asked, said in own)
        ]
        return sorted(mine, key=lambda one: one.before == one.after)[:SHOWN_ANSWERS]


@dataclass(slots=True)
class Uses:
    """The checkpoints that have something of one judgement, by name; `line` is as the newest of them has it."""

    line: Json
    checkpoints: dict[str, Use] = field(default_factory=dict[str, Use])


def trained_checkpoints(root: Path, owner: str) -> list[Trained]:
    """The checkpoints that `resonance improve` trained and that are still there, newest first.

    `root` is the folder of the runs. Raises JournalError and AliasError for damaged records.
    """
    aliases = read_aliases(root).values()
    found = [each for each in attempts(root, None) if each.figures("train") and (root / each.name).is_dir()]
    newest = sorted(found, key=lambda each: each.name, reverse=True)[:SHOWN_CHECKPOINTS]
    return [Trained(each, _state(each.name, aliases), _lines(each.folder / EXPORT_FILE, owner)) for each in newest]


def uses_of(checkpoints: Sequence[Trained], stored: Mapping[str, datetime]) -> tuple[dict[str, Uses], dict[str, Uses]]:
    """What checkpoints have of the judgements that are `stored`, and of those that were withdrawn or changed, by id.

    `stored` has the times of the owner's judgements; a later one than a line's has changed what the line says.
    """
    used: dict[bool, dict[str, Uses]] = {True: {}, False: {}}
    trained: defaultdict[str, set[tuple[bool, str]]] = defaultdict(set)
    for each in checkpoints:
        for line, use in each.used_lines():
            id = str(line["id"])
            current = id in stored and stored[id] < datetime.fromisoformat(line["at"]) + RESOLUTION
            uses = used[current].setdefault(id, Uses(line))
            if uses.checkpoints.get(each.name) != "trained":
                uses.checkpoints[each.name] = use
            if use == "trained":
                trained[each.name].add((current, id))
    parents = {each.name: each.parent for each in checkpoints}
    for each in checkpoints:
        ancestor: str | None = each.parent
        while ancestor is not None:
            for current, id in trained[ancestor]:
                used[current][id].checkpoints.setdefault(each.name, "inherited")
            ancestor = parents.get(ancestor)
    return used[True], used[False]


def question_and_answer(line: Mapping[str, Any]) -> tuple[str, str]:
    """What was asked last, and the answer that is learned, preferred or rated."""
    is_example = line["kind"] == "example"
    prompt = line["messages"][:-1] if is_example else line["prompt"]
    answer = (line["messages"] if is_example else line["chosen" if line["kind"] == "pair" else "completion"])[-1]
    asked = next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")
    return str(asked), str(answer["content"])


def _turn(turn: Mapping[str, Any]) -> str:
    return turn["content"] if turn.get("context") is None else f"{turn['content']}\n{turn['context']}"


def _state(name: str, aliases: Iterable[Alias]) -> State:
    logs = [alias.log for alias in aliases]
    if any(log[-1].run == name for log in logs):
        return "in_service"
    return "replaced" if any(move.run == name for log in logs for move in log) else "not_promoted"


def _lines(path: Path, owner: str) -> list[Json]:
    """The lines of one owner. A line without `owner_id` was written before that was recorded, and is nobody's."""
    marker = json.dumps({"owner_id": owner}, ensure_ascii=False)[1:-1]
    try:
        with path.open(encoding="utf-8") as file:
            found: list[Json] = [json.loads(line) for line in file if marker in line]
    except (OSError, ValueError):
        return []  # somebody tidied up
    return [line for line in found if line.get("owner_id") == owner]
