"""`metrics.csv`: one row per logged step, in full precision, so that two runs can be compared bit for bit."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from resonance.atomic_files import write_text_atomically
from train.callbacks.samples import data_of
from train.callbacks.scores import VALIDATION_LOSS, callbacks_of, declared_scores, scores_at_this_step
from train.callbacks.throughput import Throughput, logged_every
from train.callbacks.utilization import Utilization, has_utilization, peak_memory_mb, utilization_of
from train.sft_module import Batch, SFTModule

COLUMNS = ("step", "epoch", "train/loss", "val/loss", "lr", "grad_norm", "tokens_per_s", "tokens_seen", "seconds")
UTILIZATION, PEAK_MEMORY = "mfu", "peak_memory_mb"


class MetricsCSV(Callback):
    """Writes the metrics of each logged or validated step, and sends them to the loggers.

    `epoch` is that of the step's last micro-batch, from 0; `train/loss` is the step's mean over supervised tokens;
    `grad_norm` is before clipping; `tokens_per_s` counts tokens without padding since the previous row, without the
    time of validations; `seconds` counts from the start of this process's training; `mfu` is the share of the
    machine's peak, if `Utilization` measures it; the objective's further metrics and the scores of callbacks follow. A
    resumed run replaces the rows after its checkpoint's step; W&B keeps those that it has.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.csv"
        self._columns: Sequence[str] = COLUMNS
        self._pending: dict[str, float | int] | None = None
        self._throughput, self._flops = Throughput(), Throughput()
        self._utilization: Utilization | None = None
        self._logged_step = self._tracked_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SFTModule)
        self._throughput.start(pl_module.tokens_seen)
        self._logged_step = trainer.global_step
        if trainer.is_global_zero:
            rows = read_metrics(self._path)
            self._tracked_step = max((int(row["step"]) for row in rows), default=0)
            kept = [row for row in rows if int(row["step"]) <= trainer.global_step]
            earlier = [name for row in kept[:1] for name in row]
            declared = declared_scores(callbacks_of(trainer))
            measured = (UTILIZATION, PEAK_MEMORY) if has_utilization(callbacks_of(trainer)) else (PEAK_MEMORY,)
            further = (*measured, *pl_module.metric_names, *pl_module.validation_modes)
            self._columns = tuple(dict.fromkeys((*COLUMNS, *earlier, *further, *declared)))
            cells = ([row.get(name, "") for name in self._columns] for row in kept)
            lines = [",".join(self._columns), *(",".join(row) for row in cells)]
            write_text_atomically(self._path, "\n".join(lines) + "\n")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SFTModule)
        step = trainer.global_step
        if step > self._logged_step and step % logged_every(trainer) == 0:
            self._row(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._throughput.pause()
        self._flops.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SFTModule)
        self._throughput.go_on()
        self._flops.go_on()
        measured = [name for name in pl_module.validation_modes if name in trainer.callback_metrics]
        scores = {name: float(trainer.callback_metrics[name]) for name in (VALIDATION_LOSS, *measured)}
        self._row(trainer, pl_module).update(scores)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if self._utilization is None and (utilization := utilization_of(trainer)) is not None:
            assert isinstance(pl_module, SFTModule)  # the first batch: all callbacks have started
            self._utilization = utilization
            self._flops.start(utilization.flops(pl_module))
            self._throughput.start(pl_module.tokens_seen)
        self._flush(trainer, pl_module)  # the last step's validation and evaluation, if any, are over

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._flush(trainer, pl_module)

    def _row(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float | int]:
        """The row of the present step; it stays pending until the step's validation is over."""
        assert isinstance(pl_module, SFTModule)
        if self._pending is None:
            self._logged_step = trainer.global_step
            self._pending = {
                "step": trainer.global_step,
                "epoch": data_of(trainer).epoch_of(trainer.fit_loop.total_batch_idx),
                "train/loss": pl_module.step_loss,
                "lr": pl_module.step_lr,
                "grad_norm": pl_module.step_grad_norm,
                "tokens_per_s": self._throughput.lap(pl_module.tokens_seen),
                "tokens_seen": pl_module.tokens_seen,
                "seconds": self._throughput.seconds,
                PEAK_MEMORY: peak_memory_mb(pl_module.device),
                **pl_module.step_metrics,
            }
            if self._utilization is not None and self._utilization.peak:
                rate = self._flops.lap(self._utilization.flops(pl_module))
                self._pending[UTILIZATION] = rate / self._utilization.peak
        return self._pending

    def _flush(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = scores_at_this_step(trainer)
        if scores and (self._pending is not None or trainer.global_step > self._logged_step):
            self._row(trainer, pl_module).update(scores)
        row, self._pending = self._pending, None
        if row is None:
            return
        if trainer.is_global_zero:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(
                    [repr(row[name]) if name in row else "" for name in self._columns]
                )
        step = int(row["step"])
        measured = {name: value for name, value in row.items() if name not in ("step", "epoch")}
        for logger in trainer.loggers:
            if step > self._tracked_step or not isinstance(logger, WandbLogger):  # W&B has no way to replace a step
                logger.log_metrics(measured, step=step)


def read_metrics(path: Path) -> Sequence[Mapping[str, str]]:
    """The rows of a `metrics.csv`; none without such a file. An incomplete last line is skipped."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return rows if rows and all(name in rows[0] for name in COLUMNS) else []
