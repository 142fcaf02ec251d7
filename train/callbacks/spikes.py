"""Reports steps whose loss or gradient norm is far above the run's recent median."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich import get_console

from train.callbacks.throughput import logged_every
from train.events import record_event, remove_events
from train.sft_module import Batch, SFTModule


class SpikeReport(Callback):
    """Prints each spike and records it in the run's `events.jsonl`.

    A spike is a value above `ratio` times the median of the last `window` steps, and above that median by more than
    `deviations` times their median absolute deviation, so that the noise of a noisy run is not reported. Reports start
    after half a window. A non-finite value is no spike: it stops the run, or fp16's scaler skips its step.
    On a GPU, steps are looked at when they are settled, at each logged step.
    """

    def __init__(self, ratio: float, deviations: float, window: int) -> None:
        self._ratio, self._deviations, self._window = ratio, deviations, window
        self._history: dict[str, deque[float]] = {name: deque(maxlen=window) for name in ("train/loss", "grad_norm")}
        self._running: tuple[Trainer, SFTModule] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SFTModule)
        self._running = trainer, pl_module
        if trainer.is_global_zero:
            remove_events(Path(trainer.default_root_dir), "spike", trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SFTModule)
        if trainer.global_step % logged_every(trainer) == 0:
            pl_module.settle()
        self._add_settled()

    def _add_settled(self) -> None:
        assert self._running is not None
        trainer, module = self._running
        for step, loss, norm in module.settled_steps():
            self._add(trainer, step, {"train/loss": loss, "grad_norm": norm})

    def _add(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            usual = self._usual_if_spike(name, value)
            self._history[name].append(value)
            if usual is None or not trainer.is_global_zero:
                continue
            get_console().print(f"step {step}  {name} {value:.3g} is a spike: usual is {usual:.3g}")
            record_event(Path(trainer.default_root_dir), "spike", step, {"of": name, "value": value, "usual": usual})

    def _usual_if_spike(self, name: str, value: float) -> float | None:
        """The recent median if the value is a spike, else None."""
        history = self._history[name]
        if len(history) < self._window / 2 or not value < float("inf"):
            return None
        usual = median(history)
        deviation = median(abs(other - usual) for other in history)
        return usual if value > max(self._ratio * usual, usual + self._deviations * deviation) else None

    def state_dict(self) -> dict[str, list[float]]:
        if self._running is not None:
            self._running[1].settle()
            self._add_settled()
        return {name: list(values) for name, values in self._history.items()}

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        for name, values in state_dict.items():
            self._history[name].extend(values)
