"""Saves a run's training state and weights."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from resonance.atomic_files import replace_folder, write_text_atomically
from resonance.checkpoint import METADATA_FILE, MODEL_FILE, STATE_FILE, TRAIN_FILE, Checkpoint
from resonance.metadata import KEPT_FOLDER, LAST_FOLDER, LastWeights, Metadata, Monitor
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer
from train.callbacks.kept_weights import KeptWeights
from train.callbacks.samples import data_of
from train.callbacks.scores import (
    VALIDATION_LOSS,
    callbacks_of,
    declared_scores,
    not_logged,
    scores_at_this_step,
)
from train.checkpointing import align_to_step, scale_progress
from train.non_finite import check_weights
from train.sft_module import Batch, SFTModule


@dataclass(frozen=True, slots=True)
class Measured:
    """A monitored score and its step."""

    step: int
    value: float


class RunFolder(Callback):
    """Saves the config when training starts, `last.ckpt` every `every_n_steps`, and the best (or newest) weights.

    `monitor` names the score that selects the best weights; `mode` says whether less (min) or more (max) is better. The
    weights with the `keep_best` best scores are also kept in `kept/`. The newest weights go into `last/` when the run
    ends or is interrupted. All writes are atomic. States are saved between two steps, after the validation of a step if
    any, so that a resumed run neither repeats nor skips anything.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        metadata: Metadata,
        train_yaml: str,
        *,
        every_n_steps: int,
        best: bool,
        monitor: str = VALIDATION_LOSS,
        mode: str = "min",
        keep_best: int = 0,
    ) -> None:
        self._folder, self._tokenizer, self._metadata = folder, tokenizer, metadata
        self._train_yaml = train_yaml
        self._every, self._best = every_n_steps, best
        self._monitor, self._mode = monitor, mode
        self.kept, self._keep_best = KeptWeights(folder, keep_best), keep_best
        self._resume: Mapping[str, object] | None = None
        self._started = time.perf_counter()
        self._saved_step = 0
        self._served: Measured | None = None  # of the weights on disk
        self._measured: Measured | None = None  # the newest one
        self._served_step = -1  # of the weights on disk, if this process wrote them
        self._last = metadata.last  # the weights in last/

    def describe(self, training: Mapping[str, object], resume: Mapping[str, object] | None) -> None:
        """Add the training record, and the entry of a resume if any, to the run's metadata."""
        self._metadata = replace(self._metadata, training={**training, **self._metadata.training})
        self._resume = resume

    @property
    def saved_step(self) -> int:
        """The step of the state on disk."""
        return self._saved_step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_step, self._started = trainer.global_step, time.perf_counter()
        if self._resume is not None:
            entry = {**self._resume, "from_step": trainer.global_step}
            self._metadata = replace(self._metadata, resumes=[*self._metadata.resumes, entry])
        if not trainer.is_global_zero:
            return
        self.kept.start(trainer.global_step, self._monitor, self._mode)
        # The config is valid by now. A resume reads this file, and the record has its hash.
        write_text_atomically(self._folder / TRAIN_FILE, self._train_yaml)
        if self._resume is not None and (self._folder / METADATA_FILE).is_file():
            Checkpoint.open(self._folder).record(
                resumes=self._metadata.resumes, config_sha256=self._metadata.config_sha256
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self._select_by_callbacks_score(trainer, pl_module)  # the last step's evaluation, if any, is over
        if trainer.global_step > self._saved_step and trainer.global_step % self._every == 0:
            self.save(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._monitor in declared_scores(callbacks_of(trainer)):
            return
        if self._monitor not in trainer.callback_metrics:
            raise not_logged("save.monitor", self._monitor, trainer)
        self._select(trainer, pl_module, float(trainer.callback_metrics[self._monitor]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._select_by_callbacks_score(trainer, pl_module)
        # For Lightning the epoch is the run. If a callback stops it within a step, the earlier state stays.
        if (trainer.fit_loop.total_batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.save(trainer, pl_module)
        self._save_last(trainer, pl_module, "finished" if trainer.global_step >= trainer.max_steps else "stopped early")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        align_to_step(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        scale_progress(checkpoint["loops"]["fit_loop"], data_of(trainer).shares.parts)

    def state_dict(self) -> dict[str, object]:
        served = self._served and [self._served.step, self._served.value]
        return {"served": served, "monitor": [self._monitor, self._mode]}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        served = state_dict["served"]
        same = state_dict.get("monitor", [VALIDATION_LOSS, "min"]) == [self._monitor, self._mode]
        self._served = Measured(*served) if same and isinstance(served, list) else None

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the state, and the weights unless validation selects them. Call it between two steps."""
        if self._served is None or not self._best:  # no validation yet, or the newest weights are served
            self._save_weights(trainer, pl_module)
        trainer.save_checkpoint(self._folder / STATE_FILE)
        self._saved_step = trainer.global_step

    def interrupt(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the state, and the newest weights into `last/`. Call it between two steps."""
        self.save(trainer, pl_module)
        self._save_last(trainer, pl_module, "interrupted")

    def _select_by_callbacks_score(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Select by the monitored score if a callback measured it after the last step."""
        value = scores_at_this_step(trainer).get(self._monitor)
        if value is not None and self._present_score(trainer) is None:
            self._select(trainer, pl_module, value)

    def _select(self, trainer: Trainer, pl_module: LightningModule, value: float) -> None:
        """Save the present weights if their score is the best so far, or if the newest weights are served."""
        self._measured = Measured(trainer.global_step, value)
        best = None if self._served is None else Monitor(self._monitor, self._served.value, self._mode)
        if not self._best or Monitor(self._monitor, value, self._mode).better_than(best):
            self._served = self._measured
            self._save_weights(trainer, pl_module)
        if not self._keep_best:
            return
        assert isinstance(pl_module, SFTModule)
        name, score = f"{KEPT_FOLDER}/step-{trainer.global_step}", Monitor(self._monitor, value, self._mode)
        with pl_module.served_model() as model:
            if trainer.is_global_zero:
                self.kept.add(
                    trainer.global_step, score, lambda folder: self._save_into(folder, name, trainer, pl_module, model)
                )

    def _save_last(self, trainer: Trainer, pl_module: LightningModule, ended: str) -> None:
        """Write the newest weights into `last/`, and record them beside the served weights."""
        assert isinstance(pl_module, SFTModule)
        check_weights(trainer, pl_module.model)
        with pl_module.served_model() as model:
            if not trainer.is_global_zero:
                return
            with replace_folder(self._folder / LAST_FOLDER) as new:
                self._save_into(new, LAST_FOLDER, trainer, pl_module, model, ended)
        value = self._present_score(trainer)
        self._last = LastWeights(trainer.global_step, pl_module.tokens_seen, value)
        Checkpoint.open(self._folder).record(last=self._last, training=self._training(ended))

    def _save_into(
        self,
        folder: Path,
        name: str,
        trainer: Trainer,
        pl_module: SFTModule,
        model: GPT2,
        ended: str = "unfinished",
    ) -> None:
        """Write the weights of a model into a folder inside the run's; linked where those served are the same."""
        metadata = replace(self._present(trainer, pl_module, ended), weights=name.partition("/")[0])  # `last` or `kept`
        Checkpoint.save(
            folder,
            model,
            self._tokenizer,
            metadata,
            train_yaml=self._train_yaml,
            same_as=self._folder / MODEL_FILE if self._served_step == trainer.global_step else None,
            name=f"{self._folder.name}/{name}",
        )

    def _present(self, trainer: Trainer, pl_module: SFTModule, ended: str = "unfinished") -> Metadata:
        """The run's metadata at the present step."""
        value = self._present_score(trainer)
        return replace(
            self._metadata,
            steps=trainer.global_step,
            tokens_seen=pl_module.tokens_seen,
            monitor=None if value is None else Monitor(self._monitor, value, self._mode),
            training=self._training(ended),
        )

    def _training(self, ended: str) -> dict[str, object]:
        """The training record; its duration sums over the original run and all resumes."""
        before = self._metadata.training.get("duration_s")
        elapsed = time.perf_counter() - self._started
        duration = round(elapsed + (before if isinstance(before, int | float) else 0), 1)
        return {**self._metadata.training, "duration_s": duration, "ended": ended}

    def _present_score(self, trainer: Trainer) -> float | None:
        """The monitored score of the present weights; None if it was not measured."""
        measured = self._measured
        return measured.value if measured is not None and measured.step == trainer.global_step else None

    def _save_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SFTModule)
        check_weights(trainer, pl_module.model)
        self._served_step = trainer.global_step
        present = self._present(trainer, pl_module)
        weights = "best" if self._best and present.monitor is not None else "last"
        metadata = replace(present, weights=weights, last=self._last)
        with pl_module.served_model() as model:
            if trainer.is_global_zero:
                Checkpoint.save(self._folder, model, self._tokenizer, metadata)
