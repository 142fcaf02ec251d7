"""The evaluations of one command: the same tasks, items and settings for one checkpoint after another."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from eval.contamination import TrainingNgrams, contaminations, with_notes
from eval.dataset import TestSplit, load_training_examples
from eval.evaluate import AddProgress, Evaluation, evaluate
from eval.evaluated_model import EvaluatedModel, untrained
from eval.harness.task import HarnessTask
from eval.provenance import provenance_of
from eval.store import Store
from eval.tasks.base import Task
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError


@dataclass(frozen=True, slots=True)
class Session:
    """What the evaluations of one command have in common; `reuse` are folders of earlier evaluations."""

    config: DictConfig
    command: str
    tasks: Mapping[str, Task[Any]]
    split: TestSplit
    console: Console
    add_progress: AddProgress
    reuse: Sequence[Path] = ()

    def evaluate(self, label: str, checkpoint: Checkpoint, folder: Path | None) -> tuple[Evaluation, Store | None]:
        """Evaluate one checkpoint, and keep its records and scores in `folder`."""
        config = self.config
        model = EvaluatedModel.load(
            label, checkpoint, batch_size=config.batch_size, dtype=config.dtype, quantize=config.quantize
        )
        store = None if folder is None else self._store(folder, label, checkpoint, model)
        return evaluate(model, self.tasks, self.split.examples, self.add_progress, store), store

    def with_contamination(self, checkpoint: Checkpoint, evaluation: Evaluation, store: Store | None) -> Evaluation:
        """Compare the items with the checkpoint's training data; the outcome goes into notes, and into `eval.json`."""
        try:
            training = TrainingNgrams(load_training_examples(checkpoint), self.config.contamination.ngram)
        except ResonanceError as error:
            self.console.print(f"Overlap with the training data was not checked: {error}", style="dim", markup=False)
            return evaluation
        found = contaminations(self.tasks, self.split.examples, evaluation.results, training, seed=self.config.seed)
        if store is not None:
            store.document.record_contamination({name: each.as_json() for name, each in found.items()})
        return replace(evaluation, results=with_notes(evaluation.results, found))

    def _settings(self, name: str, task: Task[Any]) -> Mapping[str, object]:
        """A task's YAML; what a task of the harness says of itself."""
        if isinstance(task, HarnessTask):
            return task.settings
        return cast("dict[str, object]", OmegaConf.to_container(self.config.task[name]))

    def _store(self, folder: Path, label: str, checkpoint: Checkpoint, model: EvaluatedModel) -> Store:
        config = self.config
        provenance = provenance_of(
            checkpoint,
            model,
            dtype=config.dtype,
            quantize=config.quantize,
            seed=config.seed,
            command=self.command,
            data={
                "data": self.split.source,
                "data_config": OmegaConf.to_container(config.data) if config.get("data") else None,
                "data_fingerprint": self.split.fingerprint,
                "limit": config.limit,
            },
        )
        return Store(
            folder,
            label,
            provenance,
            self._settings,
            reuse=self.reuse,
            fresh=config.fresh,
            say=lambda sentence: self.console.print(f"{label}: {sentence}", style="dim", markup=False),
        )


@contextmanager
def opened_for_comparison(other: Checkpoint | str, trained: Checkpoint) -> Generator[tuple[str, Checkpoint]]:
    """The label and checkpoint to compare with."""
    if isinstance(other, Checkpoint):
        yield other.name, other
    else:
        with untrained(trained) as labelled:
            yield labelled
