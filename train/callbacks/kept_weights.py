"""The weights with the best scores of a run: each in a folder of its own, `kept/step-480/`, in `kept/scores.json`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from resonance.atomic_files import recover_folder, remove_leftovers, replace_folder, write_text_atomically
from resonance.metadata import KEPT_FOLDER, Monitor

LIST_FILE = "scores.json"


class KeptWeights:
    """Keeps the weights with the `count` best scores; of equal scores the earlier ones. Only rank 0 uses it.

    A kill at any moment leaves the listed folders whole; others are removed at the next start.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder / KEPT_FOLDER, count
        self._kept: list[tuple[int, Monitor]] = []  # the best first

    def describe(self) -> list[str]:
        """A sentence on what is kept; none where nothing is."""
        steps = ", ".join(f"step {step} ({score.value:.4f})" for step, score in self._kept)
        return [f"{KEPT_FOLDER}/ holds the {len(self._kept)} best: {steps}"] if steps else []

    def start(self, step: int, monitor: str, mode: str) -> None:
        """Take up what an interrupted run kept up to `step` by the same score; what it kept otherwise is removed."""
        if not self._folder.is_dir():
            return
        remove_leftovers(self._folder)
        file = self._folder / LIST_FILE
        rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        kept = [(int(row["step"]), Monitor(row["monitor"], row["value"], row["mode"])) for row in rows]
        self._kept = [
            (at, score)
            for at, score in kept
            if at <= step and (score.name, score.mode) == (monitor, mode) and self._path(at).is_dir()
        ][: self._count]
        self._write_list()

    def add(self, step: int, score: Monitor, save: Callable[[Path], None]) -> None:
        """Keep the weights of a step if its score is among the best; `save` writes them into a folder."""
        place = next((i for i, (_, other) in enumerate(self._kept) if score.better_than(other)), len(self._kept))
        if place >= self._count:
            return
        assert all(step != other for other, _ in self._kept)
        path = self._path(step)
        self._folder.mkdir(exist_ok=True)
        recover_folder(path)
        with replace_folder(path) as new:
            save(new)
        self._kept.insert(place, (step, score))
        del self._kept[self._count :]
        self._write_list()

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step}"

    def _write_list(self) -> None:
        """Write the list, then remove the folders that are not in it."""
        rows = [
            {"step": step, "monitor": score.name, "value": score.value, "mode": score.mode, "folder": f"step-{step}"}
            for step, score in self._kept
        ]
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        write_text_atomically(self._folder / LIST_FILE, f"[\n{lines}\n]\n" if rows else "[]\n")
        for folder in self._folder.glob("step-*"):
            if folder.name not in (row["folder"] for row in rows):
                shutil.rmtree(folder, ignore_errors=True)
