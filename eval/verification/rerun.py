"""Scores against a new run of their task: equal, or within the interval of the recorded score."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.evaluate import evaluate
from eval.evaluated_model import EvaluatedModel
from eval.paired import paired_metrics
from eval.records import read_records, records_path
from eval.results import scores_of
from eval.tasks.speed import Speed
from eval.verification.claims import Claim, judged
from eval.verification.items import examples_of, other_items, other_prompts, task_of
from eval.verification.scores import ClaimedScores, is_same, scores_in
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError


def rerun_claims(checkpoint: Checkpoint, claimed: Sequence[ClaimedScores]) -> Iterator[Claim]:
    """Run each task with its recorded settings again, in the recorded precision, and compare all scores."""
    loaded: dict[tuple[object, ...], EvaluatedModel] = {}
    for scores in claimed:
        name, entry = f"rerun: {scores.task}", scores.entry
        if entry is None or scores.scores is None:
            continue
        try:
            specs = task_of(entry).metrics.values()
            if specs and all(spec.measured for spec in specs):
                yield Claim(name, "not checked", "its scores measure the machine, and come out differently each time")
                continue
            key = (int(entry["batch_size"]), str(entry["dtype"]), entry["quantize"])
            if key not in loaded:
                loaded[key] = EvaluatedModel.load(
                    checkpoint.name, checkpoint, batch_size=key[0], dtype=key[1], quantize=entry["quantize"]
                )
            yield _rerun(name, checkpoint, loaded[key], scores, entry)
        except (ResonanceError, OSError, KeyError, TypeError, ValueError) as error:
            yield Claim(name, "not checked", f"the task cannot be run again: {error}")


def _rerun(
    name: str, checkpoint: Checkpoint, model: EvaluatedModel, claimed: ClaimedScores, entry: Mapping[str, Any]
) -> Claim:
    task = task_of(entry)
    if isinstance(task, Speed):
        return Claim(name, "not checked", "its scores are those of the machine and what else ran on it")
    examples = examples_of(checkpoint, task, entry)
    result = evaluate(model, {claimed.task: task}, examples).results[claimed.task]
    if result.error is not None:
        return Claim(name, "not checked", result.error)
    recorded = read_records(records_path(checkpoint.folder, claimed.task))
    problem = other_items(task.items(examples), recorded) or other_prompts(
        [record.prompt_sha256 for record in result.records], recorded
    )
    if problem is not None:
        return Claim(name, "does not hold", problem)
    before, now = scores_in(claimed.scores or {}), scores_in(scores_of(result, seed=int(entry["seed"])))
    compared = paired_metrics(task, before)  # with another model, which is not at hand
    before = {metric: score for metric, score in before.items() if metric not in compared}
    if before.keys() != now.keys():
        other = sorted(before.keys() ^ now.keys())
        return Claim(name, "does not hold", f"the new run has other scores, such as {other[0]}")
    moved = [metric for metric in before if not is_same(before[metric].get("value"), now[metric].get("value"))]
    held = f"all {len(before)} scores are equal in a new run of {len(recorded)} items"
    if moved:
        equal = f"{len(before) - len(moved)} scores are equal, and {len(moved)} within the recorded interval"
        held = f"{equal}: {', '.join(moved[:3])}{', …' if len(moved) > 3 else ''}"
    return judged(name, next((text for metric in moved if (text := _outside(metric, before, now))), None), held)


def _outside(metric: str, before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> str | None:
    """That a new score is outside the recorded one's interval; None where it is within."""
    (low, high), value, new = before[metric]["ci95"], before[metric]["value"], now[metric]["value"]
    if low <= new <= high:
        return None
    return f"{metric} is {new:.4g} in a new run, outside the interval of {value:.4g} ({low:.4g} to {high:.4g})"
