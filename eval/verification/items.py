"""Claims about a task's items: those that the data and the task give now are those that were asked.

Prompts are rendered again without the model: an engine that answers nothing takes its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from omegaconf import DictConfig

from data.example import Example
from eval import EvalError
from eval.dataset import foreign_target, load_test_split, subsample
from eval.evaluated_model import EvaluatedModel
from eval.likelihood import Pair
from eval.paired import paired_metrics
from eval.records import read_records, records_path
from eval.tasks.base import Item, Record, Task
from eval.tasks.choice import Choice
from eval.tasks.cloze import Cloze
from eval.tasks.constraints import Constraints
from eval.tasks.instruct import Instruct
from eval.tasks.perplexity import Perplexity
from eval.tasks.rag import Rag
from eval.tasks.safety import Safety
from eval.tasks.samples import Samples
from eval.tasks.turns import Turns
from eval.verification.claims import Claim, judged
from eval.verification.scores import ClaimedScores
from resonance.checkpoint import Checkpoint
from resonance.engine import Engine
from resonance.engine.outputs import Completion, TokenLogprob
from resonance.errors import ResonanceError
from resonance.hydra_config import make

# Tasks whose prompts depend on no answer, and that ask nothing but the engine.
_RENDERED = (Choice, Cloze, Constraints, Instruct, Perplexity, Rag, Safety, Samples, Turns)


def item_claim(checkpoint: Checkpoint, claimed: ClaimedScores) -> Claim | None:
    """The items and prompts of a task against its records; None without provenance."""
    name, entry = f"items: {claimed.task}", claimed.entry
    if entry is None:
        return None
    try:
        records = read_records(records_path(checkpoint.folder, claimed.task))
        task = task_of(entry)
        items = task.items(examples_of(checkpoint, task, entry))
    except (ResonanceError, OSError, KeyError, TypeError) as error:
        return Claim(name, "not checked", f"the items cannot be made again: {error}")
    if task.version != entry.get("version"):
        reason = f"version {entry.get('version')} of the task was run, and this is version {task.version}"
        return Claim(name, "not checked", reason)
    problem = _other_metrics(task, entry) or other_items(items, records)
    if not isinstance(task, _RENDERED):
        return judged(name, problem, f"the same {len(items)} items; rerun=true compares its prompts too")
    problem = problem or other_prompts(_prompts(checkpoint, task, items, entry), records)
    return judged(name, problem, f"the same {len(items)} items, with the same prompt ids")


def task_of(entry: Mapping[str, Any]) -> Task[Any]:
    """The task with the recorded settings.

    Raises EvalError for a task that is not of this project: a checkpoint may come from elsewhere, and its settings name
    what is called.
    """
    settings = entry["settings"]
    if not isinstance(settings, dict) or "_target_" not in settings:
        raise EvalError("its settings were not recorded")
    foreign = foreign_target(settings, "eval")
    if foreign is not None:
        raise EvalError(f"its settings would call {foreign}, which is none of this project's tasks")
    return make(DictConfig(settings), _convert_="all")


def examples_of(checkpoint: Checkpoint, task: Task[Any], entry: Mapping[str, Any]) -> Sequence[Example]:
    """The recorded part of the test split, from the data as it is now. Raises ResonanceError when it cannot be had."""
    if not task.needs_examples:
        return []
    data = entry.get("data_config")
    foreign = foreign_target(data, "data")
    if foreign is not None:
        raise EvalError(f"its data would be read by {foreign}, which is none of this project's data sources")
    split = load_test_split(None if data is None else DictConfig(data), checkpoint)
    return subsample(split.examples, entry.get("limit"), int(entry["seed"]))


def other_items(items: Sequence[Item[Any]], records: Sequence[Record]) -> str | None:
    """How the items are others than those that were recorded; None where they are the same, in the same order."""
    ids, asked = [item.id for item in items], [record.item for record in records]
    if ids == asked:
        return None
    known = set(ids)
    other = [line for line, item in enumerate(asked, 1) if item not in known]
    if not other:
        return f"the task has {len(ids)} items, and {len(asked)} are recorded, or in another order"
    return (
        f"{len(other)} of the {len(asked)} items that were asked are not in the data as it is now, "
        f"the first in line {other[0]} of the records"
    )


def other_prompts(prompts: Iterable[str | None], records: Sequence[Record]) -> str | None:
    """How the prompts' hashes are others than those that were recorded; None where they are the same."""
    pairs = enumerate(zip(prompts, records, strict=True), 1)
    other = [line for line, (prompt, record) in pairs if prompt != record.prompt_sha256]
    if not other:
        return None
    return (
        f"{len(other)} of the {len(records)} prompts have other token ids than recorded, "
        f"the first in line {other[0]} of the records"
    )


def _other_metrics(task: Task[Any], entry: Mapping[str, Any]) -> str | None:
    recorded = entry.get("metrics")
    metrics = {**task.metrics, **paired_metrics(task, recorded if isinstance(recorded, dict) else ())}
    if {metric: asdict(spec) for metric, spec in metrics.items()} == recorded:
        return None
    return f"the recorded kinds of metrics are not those of version {task.version} of the task"


def _prompts(
    checkpoint: Checkpoint, task: Task[Any], items: Sequence[Item[Any]], entry: Mapping[str, Any]
) -> list[str | None]:
    model = EvaluatedModel(
        label=checkpoint.name,
        engine=cast(Engine, _SilentEngine()),
        template=checkpoint.template(),
        tokenizer=checkpoint.load_tokenizer(),
        window=checkpoint.window,
        batch_size=int(entry.get("batch_size", 16)),
    )
    return [record.prompt_sha256 for record in task.run(model, items)]


class _SilentEngine:
    """Takes an engine's place where only prompts matter: its answers are empty, and every token's likelihood is 1."""

    def generate(self, prompts: Sequence[Sequence[int]], params: object) -> list[Completion]:
        return [Completion([], "", "length", None, len(prompt), 0) for prompt in prompts]

    def score(self, pairs: Sequence[Pair]) -> list[list[float]]:
        return [[0.0] * len(continuation) for _, continuation in pairs]

    def score_tokens(self, pairs: Sequence[Pair], top: int = 0) -> list[list[TokenLogprob]]:
        return [
            [TokenLogprob(token, 0.0, ((token, 0.0),) * top) for token in continuation] for _, continuation in pairs
        ]
