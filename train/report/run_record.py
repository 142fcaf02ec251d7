"""What a run's folder holds of its training, for the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from resonance import paths
from resonance.checkpoint import METADATA_FILE, TRAIN_FILE
from resonance.report.curves import Curve, read_curves
from resonance.weights import WeightsError, count_parameters
from train.callbacks.samples import read_samples
from train.events import EVENTS_FILE


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run's config, metadata (`resonance.json`, empty before the first save), curves, samples and events.

    `parameters` is their number; None before the first save.
    """

    folder: Path
    config: DictConfig
    metadata: Mapping[str, Any]
    curves: Mapping[str, Curve]
    samples: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    parameters: int | None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def reference(self) -> str:
        """What names the run in a command: its name, or its folder where that is not in the usual place."""
        return self.name if self.folder.parent == paths.CHECKPOINTS else str(self.folder)

    def last(self, name: str) -> float | None:
        """The last value of a curve; None without one."""
        return self.curves[name].points[-1][1] if name in self.curves else None

    @property
    def progress(self) -> tuple[int, int]:
        """The last step that was logged or saved, and the tokens seen until then; zeros before the first."""
        logged = max((curve.points[-1][0] for curve in self.curves.values()), default=0)
        last = self.metadata.get("last") or {"steps": 0, "tokens_seen": 0}
        return max((logged, int(self.last("tokens_seen") or 0)), (last["steps"], last["tokens_seen"]))

    @property
    def step(self) -> int:
        """The last step that was logged or saved; 0 before the first."""
        return self.progress[0]

    @property
    def seconds(self) -> float | None:
        """How long the run has trained, all its resumes included; before the first save, this process."""
        seconds = self.training.get("duration_s")
        return self.last("seconds") if seconds is None else float(seconds)

    @property
    def training(self) -> Mapping[str, Any]:
        """The record of the training: its command, duration, hardware and end."""
        return self.metadata.get("training") or {}


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder, also while it trains. Raises OSError without its config."""
    config = OmegaConf.load(folder / TRAIN_FILE)
    assert isinstance(config, DictConfig)
    metadata = folder / METADATA_FILE
    events = folder / EVENTS_FILE
    lines = events.read_text(encoding="utf-8").splitlines() if events.is_file() else []
    return RunRecord(
        folder.resolve(),
        config,
        json.loads(metadata.read_text(encoding="utf-8")) if metadata.is_file() else {},
        {curve.name: curve for curve in read_curves(folder) if curve.points},
        read_samples(folder),
        [json.loads(line) for line in lines if line.endswith("}")],  # a kill may have cut off the last one
        _parameters(folder),
    )


def _parameters(folder: Path) -> int | None:
    try:
        return count_parameters(folder)
    except WeightsError:  # before the first save
        return None
