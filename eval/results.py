"""Results as JSON: `eval.json` beside the weights, and the scores in `resonance.json`."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import cast

from eval.evaluate import BY_FAMILY, Result
from eval.statistics import ScoreJson
from resonance.atomic_files import write_text_atomically

Scores = dict[str, ScoreJson | dict[str, ScoreJson]]

EVAL_FILE, REPORT_FILE, MARKDOWN_FILE = "eval.json", "report.html", "report.md"


def scores_of(result: Result, *, seed: int = 0) -> Scores:
    """A task's scores as `eval.json` stores them: the task's own by name, then one mapping per group.

    Metrics without any observation (the citation precision of answers that cite nothing) have no score.
    """
    if result.error is not None:
        return {}
    scores: Scores = {}
    for (group, name), metric in result.metrics().items():
        if metric.n:
            target = scores if group is None else scores.setdefault(group, {})
            cast("dict[str, ScoreJson]", target)[name] = metric.score(seed=seed).as_json()
    if any(spec.by_group for spec in result.specs.values()):
        scores.setdefault(BY_FAMILY, {})
    return scores


def headline_of(scores: Scores) -> dict[str, object]:
    """The task's own scores, without groups, for `resonance.json` and the model card."""
    return {name: score for name, score in scores.items() if "value" in score}


def write_eval_json(folder: Path, checkpoint: str, created_at: datetime, tasks: Mapping[str, Scores]) -> Path:
    """Write `eval.json` atomically, without tasks that have no scores. Returns its path."""
    path = folder / EVAL_FILE
    document = {
        "checkpoint": checkpoint,
        "created_at": f"{created_at:%Y-%m-%dT%H:%M:%SZ}",
        "tasks": {task: scores for task, scores in tasks.items() if scores},
    }
    write_text_atomically(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path
