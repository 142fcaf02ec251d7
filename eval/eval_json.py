"""`eval.json`: a checkpoint's scores with their provenance, all of the same weights."""

import fcntl
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.records import records_path
from eval.results import headline_of
from resonance.atomic_files import write_text_atomically
from resonance.provenance import now

EVAL_FILE = "eval.json"
_SECTIONS = ("tasks", "provenance", "comparisons", "contamination", "not_run")

Json = dict[str, Any]


class EvalJson:
    """The `eval.json` in a folder, for weights with this hash.

    Tasks that were evaluated earlier on the same weights stay in it with their own provenance; what belongs to other
    weights is left out, and its records are removed with the next change.
    """

    def __init__(self, folder: Path, checkpoint: str, weights_sha256: str) -> None:
        self.path = folder / EVAL_FILE
        self._folder = folder
        self._checkpoint = checkpoint
        self._weights_sha256 = weights_sha256

    def of(self, folder: Path) -> "EvalJson":
        """The one in another folder, for the same weights."""
        return EvalJson(folder, self._checkpoint, self._weights_sha256)

    def read(self) -> Json:
        """The document: `checkpoint`, `weights_sha256`, `created_at`, and what `_SECTIONS` names."""
        found = self._found()
        same = found.get("weights_sha256") == self._weights_sha256
        return {
            "checkpoint": self._checkpoint,
            "weights_sha256": self._weights_sha256,
            "created_at": now(),
            **{name: found[name] if same else {} for name in _SECTIONS},
        }

    @contextmanager
    def change(self) -> Generator[Json]:
        """The document to change; it is written atomically at the end, while other processes wait."""
        lock = records_path(self._folder, "").with_name(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before, document = self._found()["provenance"].keys(), self.read()
            yield document
            text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
            write_text_atomically(self.path, text + "\n")
            for name in before - document["provenance"].keys():
                records_path(self._folder, name).unlink(missing_ok=True)

    def headlines(self) -> dict[str, dict[str, object]]:
        """The scores of all tasks, without groups."""
        tasks = self.read()["tasks"]
        return {name: headline for name, scores in tasks.items() if (headline := headline_of(scores))}

    def record_comparisons(self, comparisons: Mapping[str, Mapping[str, object]]) -> None:
        """Replace the differences from other models, by label and task."""
        with self.change() as document:
            for label, by_task in comparisons.items():
                document["comparisons"].setdefault(label, {}).update(by_task)

    def record_contamination(self, found: Mapping[str, Mapping[str, object]]) -> None:
        """Replace the overlap of tasks' items with the training data, by task."""
        with self.change() as document:
            document["contamination"].update(found)

    def _found(self) -> Json:
        """The document as it stands in the file, with empty sections where there is none, or none of ours."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            sections: Json = {name: {**found.get(name, {})} for name in _SECTIONS}
            return {"weights_sha256": found.get("weights_sha256"), **sections}
        except (OSError, ValueError, AttributeError, TypeError):
            return {name: {} for name in _SECTIONS}
