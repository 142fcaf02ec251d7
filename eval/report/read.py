"""Reads a report's contents from the files of evaluations: `eval.json`, `eval/*.jsonl`, `metrics.csv`; no model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from eval import EvalError
from eval.eval_json import EVAL_FILE
from eval.evaluate import Evaluation, compare
from eval.evaluated_model import UNTRAINED
from eval.records import RECORDS_FOLDER, read_records, records_path, records_sha256
from eval.report.contents import Report
from eval.results import Result
from eval.tasks.base import MetricSpec
from resonance.checkpoint import Checkpoint
from resonance.report.curves import read_curves

_COMPARE = "compare"  # in the records' folder: the evaluations of the models compared with, a folder each
Json = Mapping[str, Any]


def compare_folder(folder: Path, label: str) -> Path:
    """The folder of the evaluation of a model that the one in `folder` is compared with."""
    return folder / RECORDS_FOLDER / _COMPARE / label.replace("/", "-")


def read_report(folder: Path, checkpoint: Checkpoint, labels: Sequence[str] | None = None) -> Report:
    """The report of the evaluation in `folder`, compared with the models `labels`; None: all that have been evaluated.

    Tasks that were evaluated with another version or other settings are not compared. Raises EvalError when there is
    no evaluation, a file cannot be read, or a label was not evaluated.
    """
    document = _document(folder)
    first = _evaluation(folder, document)
    provenance: dict[str, Mapping[str, object]] = {**document["provenance"]}
    seed = next((int(entry.get("seed", 0)) for entry in document["provenance"].values()), 0)
    others = [_compared(path, first, document) for path in _compare_folders(folder, labels)]
    evaluations = [first, *others]
    return Report(
        checkpoint=first.label,
        created_at=datetime.fromisoformat(document["created_at"]),
        facts=_facts(checkpoint),
        evaluations=evaluations,
        rows=compare(evaluations, seed=seed),
        seed=seed,
        data=checkpoint.metadata.data,
        curves=read_curves(checkpoint.folder),
        provenance=provenance,
        contamination={**document.get("contamination", {})},
    )


def _document(folder: Path) -> Json:
    path = folder / EVAL_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(document[name], dict) for name in ("provenance", "not_run")):
            raise TypeError("it has no provenance")
        return document
    except FileNotFoundError:
        raise EvalError(f"There is no {path}; evaluate first, without report_only=true.") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EvalError(f"{path} cannot be read ({error}); evaluate again.") from error


def _evaluation(folder: Path, document: Json) -> Evaluation:
    results = {task: _result(folder, task, entry) for task, entry in document["provenance"].items()}
    results |= {task: Result({}, error=str(reason)) for task, reason in document["not_run"].items()}
    precision = next((str(entry.get("precision")) for entry in document["provenance"].values()), "")
    return Evaluation(str(document["checkpoint"]), precision, results)


def _result(folder: Path, task: str, entry: Json) -> Result:
    path = records_path(folder, task)
    try:
        specs = {str(name): MetricSpec(**spec) for name, spec in entry["metrics"].items()}
        notes = [str(note) for note in entry.get("notes", [])]
    except (LookupError, TypeError, AttributeError) as error:
        raise EvalError(f"{folder / EVAL_FILE} does not describe the metrics of {task}; evaluate again.") from error
    records = tuple(read_records(path))
    if records_sha256(path) != entry.get("records_sha256"):
        notes.append(f"{path.name} has changed since the scores in {EVAL_FILE} were made of it.")
    return Result(specs, records, tuple(notes))


def _compare_folders(folder: Path, labels: Sequence[str] | None) -> list[Path]:
    found = sorted(path.parent for path in compare_folder(folder, "").glob(f"*/{EVAL_FILE}"))
    if labels is None:
        return found
    chosen: list[Path] = []
    for label in labels:
        names = [compare_folder(folder, label).name]
        if label == UNTRAINED:  # whose label is `base (NAME)` where training began from base weights
            names += [path.name for path in found if path.name.startswith("base (")]
        matching = [path for path in found if path.name in names]
        if not matching:
            there = ", ".join(path.name for path in found) or "none"
            raise EvalError(f"No evaluation of {label!r} is kept beside that of this checkpoint; there are: {there}.")
        chosen.append(matching[0])
    return chosen


def _compared(folder: Path, first: Evaluation, document: Json) -> Evaluation:
    """Another model's evaluation, with a result for each task of the first one, empty where it cannot be compared."""
    theirs = _document(folder)
    evaluation = _evaluation(folder, theirs)
    results = {
        task: evaluation.results[task]
        if task in evaluation.results and _same_task(document["provenance"].get(task), theirs["provenance"].get(task))
        else Result(result.specs)
        for task, result in first.results.items()
    }
    return replace(evaluation, results=results)


def _same_task(ours: object, theirs: object) -> bool:
    """Whether two entries of provenance are of the same task; a task that did not run has none."""
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return True
    one, other = cast("Json", ours), cast("Json", theirs)
    return all(one.get(name) == other.get(name) for name in ("version", "settings"))


def _facts(checkpoint: Checkpoint) -> dict[str, str]:
    """The report's facts about the checkpoint."""
    metadata = checkpoint.metadata
    return {
        "Trained from": metadata.base or "random weights",
        "Data": metadata.data or "unknown",
        "Steps": f"{metadata.steps:,}",
        "Tokens seen": f"{metadata.tokens_seen:,}",
        "Template": metadata.template,
    }
