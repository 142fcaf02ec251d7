"""The entry point of `resonance eval`."""

import logging
import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval import EvalError
from eval.contamination import check_ngram
from eval.dataset import TestSplit, load_test_split, subsample
from eval.eval_json import EVAL_FILE, EvalJson
from eval.evaluate import AddProgress, Advance, Evaluation, ScoreRow, compare, comparisons_of
from eval.evaluated_model import UNTRAINED
from eval.harness.task import harness_tasks
from eval.jsonl import BadFile
from eval.paired import with_pairs
from eval.report.contents import Report
from eval.report.html import html_report
from eval.report.markdown import markdown_report
from eval.report.read import compare_folder, read_report
from eval.report.table import answer_table, score_table
from eval.requirements import Outcome, check_requirements, families_of, not_met, outcomes, parse_requirements
from eval.results import scores_of
from eval.session import Session, opened_for_comparison
from eval.tasks.base import Task
from eval.tracking import check_setting, send_scores
from resonance.atomic_files import write_text_atomically
from resonance.checkpoint import METADATA_FILE, Checkpoint
from resonance.errors import ResonanceError
from resonance.hydra_config import compose, group_options, make, nearest

REPORT_FILE, MARKDOWN_FILE = "report.html", "report.md"

_PIPED_WIDTH = 160  # columns, where the output is no terminal


class NothingRan(EvalError):
    """An evaluation of which every task failed."""

    exit_code = 1


def main(overrides: list[str]) -> None:
    """Evaluate a checkpoint and those to compare it with; `configs/eval.yaml` has the keys."""
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its warnings of repeated requests break the progress bars
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    config = compose("eval", [*(f"+task@task.{name}={name}" for name in group_options("task")), *overrides])
    if config.report_only:
        _report_only(console, config)
    else:
        _evaluate(console, config, shlex.join(["resonance", "eval", *overrides]))


def _evaluate(console: Console, config: DictConfig, command: str) -> None:
    tasks = _tasks(config)
    if config.contamination is not None:
        check_ngram(config.contamination.ngram)
    checkpoint = Checkpoint.find(str(config.checkpoint))
    check_setting(checkpoint, config.wandb)
    requirements = parse_requirements(_requirements(config))
    compared = [*dict.fromkeys([*_names(config.compare), *(each.other for each in requirements if each.other)])]
    others = [name if name == UNTRAINED else Checkpoint.find(name) for name in compared]
    split = TestSplit([], None, None)
    if any(task.needs_examples for task in tasks.values()):
        split = load_test_split(config.get("data"), checkpoint)
        split = replace(split, examples=subsample(split.examples, config.limit, config.seed))
        if split.note:
            console.print(split.note, style="yellow", markup=False)

    if requirements:
        check_requirements(requirements, tasks, families_of(tasks, split.examples))
    _check_files(tasks, split)
    folder, reuse = _folder(config, checkpoint), _evaluated_folders(config)
    with _progress(console) as add_progress, _said_how_to_go_on(folder):
        session = Session(config, command, tasks, split, console, add_progress, reuse)
        first, store = session.evaluate(checkpoint.name, checkpoint, folder)
        evaluations = [first]
        for other in others:
            with opened_for_comparison(other, checkpoint) as (label, opened):
                within = folder and compare_folder(folder, label)
                evaluations.append(session.evaluate(label, opened, within)[0])
        evaluations = with_pairs(evaluations, tasks, add_progress)
        if store is not None:
            store.amend(first.results, evaluations[0].results)
    if config.contamination is not None:
        evaluations[0] = session.with_contamination(checkpoint, evaluations[0], store)

    rows = compare(evaluations, seed=config.seed)
    _print(console, evaluations, rows)
    if folder is None or store is None:
        console.print(f"{checkpoint.name} is not a run of ours, so nothing was written; out=FOLDER keeps the scores.")
    else:
        _save(console, folder, store.document, checkpoint, evaluations, rows, record=config.out is None)
        if config.out is None or config.wandb is True:
            scores = {name: scores_of(each, seed=config.seed) for name, each in evaluations[0].results.items()}
            if sentence := send_scores(checkpoint, scores, config.wandb):
                console.print(sentence, soft_wrap=True, highlight=False, markup=False)

    places = {name: place for place, name in enumerate(compared, 1)}
    _end(console, evaluations[0], outcomes(requirements, evaluations, rows, places))


def _end(console: Console, evaluation: Evaluation, found: Sequence[Outcome]) -> None:
    """Say what `require=` found. Raises RequirementsNotMet, and EvalError when no task ran."""
    for outcome in found:
        style = "green" if outcome.met else "red"
        console.print(f"{'met' if outcome.met else 'NOT MET'}: {outcome.sentence}", style=style, markup=False)
    if failure := not_met(found):
        raise failure
    if all(result.error is not None for result in evaluation.results.values()):
        raise NothingRan(f"None of the tasks ran: {', '.join(evaluation.results)}; the lines above say why.")


def _requirements(config: DictConfig) -> list[str]:
    """The texts of `require=`; a list without quotes is outside Hydra's grammar, and arrives as one text."""
    texts = _names(config.require) if config.require else []
    if len(texts) == 1 and texts[0].startswith("[") and texts[0].endswith("]"):
        texts = [text.strip().strip("'\"") for text in texts[0][1:-1].split(",")]
    return [text for text in texts if text]


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


def _check_files(tasks: Mapping[str, Task[Any]], split: TestSplit) -> None:
    """Raise BadFile if every task's file is missing or malformed; otherwise the other tasks run without those."""
    found: list[BadFile] = []
    for task in tasks.values():
        try:
            task.items(split.examples)
        except BadFile as error:
            found.append(error)
        except ResonanceError:
            return
        else:
            return
    raise found[0]


def _names(value: object) -> list[str]:
    """A list of names; a single one may have no brackets."""
    names = OmegaConf.to_object(value) if OmegaConf.is_list(value) else [value]
    return [str(name) for name in names] if isinstance(names, list) else []


def _folder(config: DictConfig, checkpoint: Checkpoint) -> Path | None:
    """Where the scores are kept; None for the folder of a base model, which is not ours to write into."""
    if config.out is not None:
        return Path(str(config.out))
    return checkpoint.folder if (checkpoint.folder / METADATA_FILE).is_file() else None


def _evaluated_folders(config: DictConfig) -> list[Path]:
    """The folders of `reuse=`. Raises EvalError for one without an evaluation."""
    folders = [Path(name).expanduser() for name in _names(config.reuse)]
    for folder in folders:
        if not (folder / EVAL_FILE).is_file():
            raise EvalError(f"reuse={folder} holds no evaluation: it has no {EVAL_FILE}.")
    return folders


@contextmanager
def _said_how_to_go_on(folder: Path | None) -> Generator[None]:
    """Ctrl-C ends with a sentence."""
    try:
        yield
    except KeyboardInterrupt:
        kept = "the same command goes on where it stopped" if folder else "nothing was kept; out=FOLDER keeps records"
        raise KeyboardInterrupt(f"Interrupted; {kept}.") from None


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
    folder: Path,
    document: EvalJson,
    checkpoint: Checkpoint,
    evaluations: Sequence[Evaluation],
    rows: Sequence[ScoreRow],
    *,
    record: bool,
) -> None:
    """Write the comparisons and the reports; `record` puts the scores into the checkpoint's own metadata too."""
    document.record_comparisons(comparisons_of([each.label for each in evaluations], rows))
    _write_reports(folder, read_report(folder, checkpoint, [each.label for each in evaluations[1:]]))
    if record:
        checkpoint.record(scores=document.headlines())
    console.print(f"Scores: {document.path}\nReport: {folder / REPORT_FILE}", soft_wrap=True, highlight=False)


def _write_reports(folder: Path, report: Report) -> None:
    write_text_atomically(folder / REPORT_FILE, html_report(report))
    write_text_atomically(folder / MARKDOWN_FILE, markdown_report(report))


def _report_only(console: Console, config: DictConfig) -> None:
    """Make the reports again from the files of an evaluation; without `compare`, beside all models in them."""
    checkpoint = Checkpoint.find(str(config.checkpoint))
    folder = _folder(config, checkpoint)
    if folder is None:
        raise EvalError(f"{checkpoint.name} is not a run of ours; name the folder of its evaluation with out=FOLDER.")
    report = read_report(folder, checkpoint, _names(config.compare) or None)
    if report.rows:
        console.print(score_table(report.evaluations, report.rows))
    _write_reports(folder, report)
    console.print(f"Report: {folder / REPORT_FILE}", soft_wrap=True, highlight=False)
