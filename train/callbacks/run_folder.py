"""What a run leaves on disk while it trains: the state to resume from, and the weights to use."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from resonance.checkpoint import STATE_FILE, TRAIN_FILE, Checkpoint, Metadata, Monitor
from resonance.paths import write_text_atomically
from resonance.tokenizer import Tokenizer
from train.module import Batch, SFTModule
from train.state import between_steps

MONITOR = "val/loss"  # decides which weights of a run, and which run, are best


class RunFolder(Callback):
    """Saves the config when training starts, `last.ckpt` every so many steps, and weights better than those there.

    All are written whole or not at all. States are saved between two steps, after the validation that a step may
    have set off, so that a resumed run neither repeats nor skips anything.
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
    ) -> None:
        self._folder, self._tokenizer, self._metadata = folder, tokenizer, metadata
        self._train_yaml = train_yaml
        self._every, self._best = every_n_steps, best
        self._saved_step = 0
        self._kept: Monitor | None = None  # of the weights on disk

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_step = trainer.global_step
        if trainer.is_global_zero:  # now that nothing has refused the config, which a resumed run goes by
            write_text_atomically(self._folder / TRAIN_FILE, self._train_yaml)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if trainer.global_step > self._saved_step and trainer.global_step % self._every == 0:
            self.save(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or MONITOR not in trainer.callback_metrics:
            return
        now = Monitor(MONITOR, float(trainer.callback_metrics[MONITOR]))
        if not self._best or now.better_than(self._kept):
            self._kept = now
            self._save_weights(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.current.completed < trainer.num_training_batches:
            self.save(trainer, pl_module)  # the run ends within an epoch, which a resumed run may finish

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved_step != trainer.global_step:
            self.save(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        between_steps(checkpoint["loops"]["fit_loop"], trainer.num_training_batches)

    def state_dict(self) -> dict[str, object]:
        return {"kept": None if self._kept is None else [self._kept.name, self._kept.value, self._kept.mode]}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        kept = state_dict["kept"]
        self._kept = Monitor(*kept) if isinstance(kept, list) else None

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the state, and the weights where they are not chosen by validation. Call it between two steps."""
        if self._kept is None or not self._best:  # nothing was validated, or the newest weights are wanted
            self._save_weights(trainer, pl_module)
        trainer.save_checkpoint(self._folder / STATE_FILE)
        self._saved_step = trainer.global_step

    def _save_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SFTModule)
        if trainer.is_global_zero:
            metadata = replace(
                self._metadata, steps=trainer.global_step, tokens_seen=pl_module.tokens_seen, monitor=self._kept
            )
            Checkpoint.save(self._folder, pl_module.model, self._tokenizer, metadata)
