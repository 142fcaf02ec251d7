"""What an evaluation leaves behind: `eval.json` beside the weights, scores in `resonance.json`."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from eval.statistics import Measure, ScoreJson
from eval.tasks.base import Result
from resonance.atomic_files import write_text_atomically

Scores = dict[str, ScoreJson | dict[str, ScoreJson]]

EVAL_FILE, REPORT_FILE = "eval.json", "report.html"


def scores_of(result: Result, *, seed: int = 0) -> Scores:
    """A task's scores in the form of `eval.json`: those of the whole by name, then one mapping a group.

    What was not observed at all (the precision of citations where there is none) has no score.
    """
    scores: Scores = {**_scores(result.measures, seed)}
    for group, measures in result.groups.items():
        scores[group] = _scores(measures, seed)
    return scores


def _scores(measures: Mapping[str, Measure], seed: int) -> dict[str, ScoreJson]:
    return {name: measure.score(seed=seed).as_json() for name, measure in measures.items() if measure.n}


def headline_of(scores: Scores) -> dict[str, object]:
    """The scores of the whole, without groups: what stands in `resonance.json` and on the model card."""
    return {name: score for name, score in scores.items() if "value" in score}


def write_eval_json(folder: Path, checkpoint: str, created_at: datetime, tasks: Mapping[str, Scores]) -> Path:
    """Write `eval.json`, whole or not at all; tasks without scores are left out. Returns its path."""
    path = folder / EVAL_FILE
    document = {
        "checkpoint": checkpoint,
        "created_at": f"{created_at:%Y-%m-%dT%H:%M:%SZ}",
        "tasks": {task: scores for task, scores in tasks.items() if scores},
    }
    write_text_atomically(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path
