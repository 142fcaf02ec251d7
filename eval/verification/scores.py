"""Claims about scores: `resonance.json` against `eval.json`, and `eval.json` against the records of every item."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval import EvalError
from eval.eval_json import EVAL_FILE
from eval.provenance import template_sha256, tokenizer_sha256
from eval.records import read_records, records_path, records_sha256
from eval.results import Result, headline_of, scores_of
from eval.tasks.base import MetricSpec, Record
from eval.verification.claims import Claim, judged
from resonance.checkpoint import MODEL_FILE, Checkpoint
from resonance.errors import ResonanceError
from resonance.fingerprint import file_sha256

Json = dict[str, Any]

ROUNDING = 1e-9  # relative: sums of the same numbers may differ in their last digits between machines


@dataclass(frozen=True, slots=True)
class ClaimedScores:
    """A task's scores in both files, with their provenance; what is absent is None."""

    task: str
    headline: Mapping[str, object] | None  # in resonance.json
    scores: Json | None  # in eval.json
    entry: Json | None  # of eval.json's provenance


def claimed_scores(checkpoint: Checkpoint) -> list[ClaimedScores]:
    """All tasks that either file has scores of.

    Raises EvalError when `eval.json` is not as `resonance eval` writes it.
    """
    path = checkpoint.folder / EVAL_FILE
    sections: dict[str, Json] = {"tasks": {}, "provenance": {}}
    if path.is_file():
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            sections = {name: {**document.get(name, {})} for name in sections}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise EvalError(f"{path} cannot be read ({error}); evaluate again.") from error
    headlines = checkpoint.metadata.scores
    tasks = dict.fromkeys([*headlines, *sections["tasks"], *sections["provenance"]])
    return [
        ClaimedScores(task, headlines.get(task), sections["tasks"].get(task), sections["provenance"].get(task))
        for task in tasks
    ]


def score_claim(checkpoint: Checkpoint, claimed: ClaimedScores) -> Claim:
    """A task's scores, computed again from its records with the recorded kinds of metrics."""
    name = f"scores: {claimed.task}"
    if claimed.headline is not None and claimed.scores is not None:
        different = next(_differences(claimed.headline, headline_of(claimed.scores)), None)
        if different is not None:
            return Claim(name, "does not hold", f"resonance.json and {EVAL_FILE} disagree: {different}")
    if claimed.entry is None:
        return Claim(name, "not checked", f"{EVAL_FILE} has no provenance of it; evaluating again records it")
    if claimed.headline and claimed.scores is None:
        return Claim(name, "does not hold", f"{EVAL_FILE} has no such scores")
    try:
        problem = _other_origin(checkpoint, claimed.entry) or _other_records(checkpoint, claimed)
        if problem is not None:
            return Claim(name, "does not hold", problem)
        records = read_records(records_path(checkpoint.folder, claimed.task))
        derived = derived_scores(claimed.entry, records)
    except (ResonanceError, OSError) as error:
        return Claim(name, "does not hold", str(error))
    different = next(_differences(claimed.scores or {}, derived), None)
    problem = different and f"the records give other scores than {EVAL_FILE}: {different}"
    return judged(name, problem, f"{_shown(derived)} from {len(records)} records")


def derived_scores(entry: Mapping[str, Any], records: list[Record]) -> Json:
    """The scores of these records, by the kinds of metrics in the provenance, in the form of `eval.json`.

    Raises EvalError when the provenance does not describe them.
    """
    try:
        specs = {str(name): MetricSpec(**spec) for name, spec in entry["metrics"].items()}
        result, seed = Result(specs, tuple(records)), int(entry["seed"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvalError(f"The provenance in {EVAL_FILE} does not describe the metrics ({error}).") from error
    return {**scores_of(result, seed=seed)}


def scores_in(scores: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every score by its dotted name (`by_family.capitals`)."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, score in scores.items():
        if not isinstance(score, dict):
            found[name] = {"value": score}
        elif "value" in score:
            found[name] = score
        else:
            found |= {f"{name}.{inner}": value for inner, value in scores_in(score).items()}
    return found


def is_same(ours: object, theirs: object) -> bool:
    """Whether two numbers are equal but for rounding; lists of numbers, entry by entry."""
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(is_same, ours, theirs))
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=ROUNDING, abs_tol=ROUNDING * 1e-3)
    return ours == theirs


def _other_origin(checkpoint: Checkpoint, entry: Mapping[str, Any]) -> str | None:
    """Whether the scores are of other weights, or of another template or tokenizer."""
    template = checkpoint.template()
    present = {
        "weights": file_sha256(checkpoint.folder / MODEL_FILE),
        "template": template_sha256(template),
        "tokenizer": tokenizer_sha256(template.tokenizer),
    }
    other = [what for what, digest in present.items() if entry.get(f"{what}_sha256") != digest]
    return f"they were measured with other {' and '.join(other)} than the checkpoint has" if other else None


def _other_records(checkpoint: Checkpoint, claimed: ClaimedScores) -> str | None:
    path = records_path(checkpoint.folder, claimed.task)
    if not path.is_file():
        return f"the records {path.relative_to(checkpoint.folder)} are missing"
    recorded = (claimed.entry or {}).get("records_sha256")
    if records_sha256(path) != recorded:
        return f"{path.relative_to(checkpoint.folder)} is not the file of records that the evaluation wrote"
    return None


def _differences(claimed: Mapping[str, Any], derived: Mapping[str, Any]) -> Iterator[str]:
    ours, theirs = scores_in(claimed), scores_in(derived)
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in theirs:
            yield f"{name} is {ours[name].get('value')} on the one side and absent on the other"
        elif name not in ours:
            yield f"{name} is absent on the one side and {theirs[name].get('value')} on the other"
        else:
            for key in dict.fromkeys([*ours[name], *theirs[name]]):
                if not is_same(ours[name].get(key), theirs[name].get(key)):
                    what = name if key == "value" else f"{name}'s {key}"
                    yield f"{what} is {ours[name].get(key)} and {theirs[name].get(key)}"


def _shown(scores: Mapping[str, Any]) -> str:
    """The number of scores, and the first of them."""
    found = scores_in(scores)
    if not found:
        return "no score"
    name, score = next(iter(found.items()))
    return f"{len(found)} scores, such as {name} {score['value']:.4g},"
