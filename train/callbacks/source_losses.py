"""The validation loss of each source of a mixture."""

from collections.abc import Mapping, Sequence

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from train.callbacks.scores import VALIDATION_LOSS
from train.sft_module import Batch, SFTModule
from train.step_record import floats


class SourceLosses(Callback):
    """Measures `val/loss/NAME`, the mean loss over a source's supervised validation tokens, at each validation.

    It adds up what validation computes anyway: each of its batches is of one source. `names` are those of the sources
    with validation examples, None for the others.
    """

    def __init__(self, names: Sequence[str | None]) -> None:
        self._names = [None if name is None else f"{VALIDATION_LOSS}/{name}" for name in names]
        self._losses: list[list[Tensor]] = [[] for _ in names]  # of the batches of each source, () each
        self._supervised = [0.0] * len(names)
        self.score_step = 0
        self.scores: Mapping[str, float] = {}

    @property
    def score_modes(self) -> Mapping[str, str]:
        """The losses' names; less is better."""
        return {name: "min" for name in self._names if name is not None}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._losses = [[] for _ in self._names]
        self._supervised = [0.0] * len(self._names)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Tensor | int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if isinstance(outputs, Mapping) and "source" in batch:
            source = int(batch["source"])
            loss = outputs["loss_sum"]
            assert isinstance(loss, Tensor)
            self._losses[source].append(loss)
            self._supervised[source] += int(outputs["supervised"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SFTModule)
        totals = pl_module.sum_over_ranks(*(sum(floats(losses)) for losses in self._losses), *self._supervised)
        sums, supervised = totals[: len(self._names)], totals[len(self._names) :]
        self.score_step = trainer.global_step
        self.scores = {
            name: loss / tokens
            for name, loss, tokens in zip(self._names, sums, supervised, strict=True)
            if name is not None and tokens
        }
        for name, value in self.scores.items():
            pl_module.log(name, value, logger=False, rank_zero_only=True)
