"""The entry point of `resonance eval`."""

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.example import Example
from eval import EvalError
from eval.dataset import load_test_split, subsample
from eval.evaluate import AddProgress, Advance, Evaluation, ScoreRow, compare, evaluate
from eval.evaluated_model import UNTRAINED, EvaluatedModel, untrained
from eval.harness.task import harness_tasks
from eval.paired import with_pairs
from eval.records import records_path, write_records
from eval.report.contents import Report
from eval.report.html import html_report
from eval.report.markdown import markdown_report
from eval.report.table import answer_table, score_table
from eval.report.training import read_curves
from eval.results import MARKDOWN_FILE, REPORT_FILE, headline_of, scores_of, write_eval_json
from eval.tasks.base import Task
from resonance.atomic_files import write_text_atomically
from resonance.checkpoint import METADATA_FILE, Checkpoint
from resonance.hydra_config import compose, group_options, make, nearest

_PIPED_WIDTH = 160  # columns, where the output is no terminal


def main(overrides: list[str]) -> None:
    """Evaluate a checkpoint and those to compare it with; `configs/eval.yaml` has the keys."""
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its warnings of repeated requests break the progress bars
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    config = compose("eval", [*(f"+task@task.{name}={name}" for name in group_options("task")), *overrides])
    tasks = _tasks(config)
    checkpoint = Checkpoint.find(str(config.checkpoint))
    others = [name if name == UNTRAINED else Checkpoint.find(name) for name in _names(config.compare)]
    examples: Sequence[Example] = []
    if any(task.needs_examples for task in tasks.values()):
        split = load_test_split(config.get("data"), checkpoint)
        examples = subsample(split.examples, config.limit, config.seed)
        if split.note:
            console.print(split.note, style="yellow", markup=False)

    with _progress(console) as add_progress:
        evaluations = [_evaluate(config, checkpoint.name, checkpoint, tasks, examples, add_progress)]
        for other in others:
            with _open(other, checkpoint) as (label, opened):
                evaluations.append(_evaluate(config, label, opened, tasks, examples, add_progress))
        evaluations = with_pairs(evaluations, tasks, add_progress)

    rows = compare(evaluations, seed=config.seed)
    _print(console, evaluations, rows)
    _save(console, config, checkpoint, evaluations, rows)


def _tasks(config: DictConfig) -> dict[str, Task[Any]]:
    names = _names(config.tasks)
    harness = _harness_tasks(config)
    if not names and not harness:
        raise EvalError(f"tasks=[] leaves nothing to do; there are {', '.join(config.task)}.")
    for name in names:
        if name not in config.task:
            raise EvalError(f"There is no task {name!r}; {nearest(name, [str(there) for there in config.task])}")
    return {name: make(config.task[name], _convert_="all") for name in names} | harness


def _harness_tasks(config: DictConfig) -> dict[str, Task[Any]]:
    """The tasks of lm-evaluation-harness in `harness=`, set by the keys that begin with `harness_`."""
    settings = {
        str(key).removeprefix("harness_"): OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        for key, value in config.items()
        if str(key).startswith("harness_")
    }
    tasks: dict[str, Task[Any]] = {**harness_tasks(_names(config.harness), settings)}
    for name in tasks:
        if name in config.task:
            raise EvalError(f"The harness's {name!r} has the name of a task of ours, so the two cannot be told apart.")
    return tasks


def _names(value: object) -> list[str]:
    """A list of names; a single one may have no brackets."""
    names = OmegaConf.to_object(value) if OmegaConf.is_list(value) else [value]
    return [str(name) for name in names] if isinstance(names, list) else []


@contextmanager
def _open(other: Checkpoint | str, trained: Checkpoint) -> Generator[tuple[str, Checkpoint]]:
    """The label and checkpoint to compare with."""
    if isinstance(other, Checkpoint):
        yield other.name, other
    else:
        with untrained(trained) as labelled:
            yield labelled


def _evaluate(
    config: DictConfig,
    label: str,
    checkpoint: Checkpoint,
    tasks: Mapping[str, Task[Any]],
    examples: Sequence[Example],
    add_progress: AddProgress,
) -> Evaluation:
    model = EvaluatedModel.load(
        label, checkpoint, batch_size=config.batch_size, dtype=config.dtype, quantize=config.quantize
    )
    return evaluate(model, tasks, examples, add_progress)


@contextmanager
def _progress(console: Console) -> Generator[AddProgress]:
    """A progress bar per checkpoint and task."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:

        def add_progress(description: str, size: int) -> Advance:
            bar = progress.add_task(description, total=size)
            return lambda steps: progress.advance(bar, steps)

        yield add_progress


def _print(console: Console, evaluations: Sequence[Evaluation], rows: Sequence[ScoreRow]) -> None:
    first = evaluations[0]
    if rows:
        console.print(score_table(evaluations, rows))
    for task, result in first.results.items():
        if not result.specs and result.error is None:
            console.print(answer_table(first, task))
    for evaluation in evaluations:
        for result in evaluation.results.values():
            for note in result.notes:
                console.print(f"{evaluation.label}: {note}", style="yellow", markup=False)
        for task, result in evaluation.results.items():
            if result.error is not None:
                console.print(f"{evaluation.label}: {task} did not run: {result.error}", style="red", markup=False)


def _save(
    console: Console,
    config: DictConfig,
    checkpoint: Checkpoint,
    evaluations: Sequence[Evaluation],
    rows: Sequence[ScoreRow],
) -> None:
    """Write `eval.json` and the reports; without `out`, record the scores in the checkpoint too."""
    if config.out is None and not (checkpoint.folder / METADATA_FILE).is_file():
        console.print(f"{checkpoint.name} is not a run of ours, so nothing was written; out=FOLDER keeps the scores.")
        return
    folder = checkpoint.folder if config.out is None else Path(str(config.out))
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    for task, result in evaluations[0].results.items():
        write_records(records_path(folder, task), result.records)
    scores = {task: scores_of(result, seed=config.seed) for task, result in evaluations[0].results.items()}
    path = write_eval_json(folder, checkpoint.name, now, scores)
    report = Report(
        checkpoint.name,
        now,
        _facts(checkpoint, evaluations[0].precision, now),
        evaluations,
        rows,
        seed=config.seed,
        data=checkpoint.metadata.data,
        curves=read_curves(checkpoint.folder),
    )
    write_text_atomically(folder / REPORT_FILE, html_report(report))
    write_text_atomically(folder / MARKDOWN_FILE, markdown_report(report))
    if config.out is None:
        checkpoint.record_scores({task: headline_of(scores) for task, scores in scores.items() if scores})
    console.print(f"Scores: {path}\nReport: {folder / REPORT_FILE}", soft_wrap=True, highlight=False)


def _facts(checkpoint: Checkpoint, precision: str, now: datetime) -> dict[str, str]:
    """The report's facts about the checkpoint."""
    metadata = checkpoint.metadata
    return {
        "Trained from": metadata.base or "random weights",
        "Data": metadata.data or "unknown",
        "Steps": f"{metadata.steps:,}",
        "Tokens seen": f"{metadata.tokens_seen:,}",
        "Template": metadata.template,
        "Precision": precision,
        "Evaluated": f"{now:%Y-%m-%d %H:%M} UTC",
    }
