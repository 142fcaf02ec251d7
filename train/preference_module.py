"""The Lightning module of preference training: DPO on pairs of answers, KTO on votes."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from rich import get_console
from torch import Tensor

from data.preference_module import PreferenceDataModule
from resonance.pinned_memory import to_device
from train.objectives import DPO, KTO
from train.preference_losses import dpo_losses, kto_losses, sequence_log_probs
from train.sft_module import Batch, SFTModule
from train.step_batch import StepBatch

_REWARDS = ("reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy")
_MODES = {"reward_chosen": "max", "reward_rejected": "min", "reward_margin": "max", "reward_accuracy": "max"}


class PreferenceModule(SFTModule):
    """Preference training; a step's loss is the mean over the pairs or votes of all its micro-batches on all ranks.

    The reference is the model at the start of the run: with an adapter, the base weights beneath it. Its
    log-probabilities of all answers are computed once, before the first step, and saved in Lightning's state, so that
    a resumed run has the same ones and no second model is in memory.

    Logged are the mean rewards of chosen and rejected (or desirable and undesirable) answers, their difference
    (`reward_margin`) and `reward_accuracy`: the share of pairs whose chosen answer has the higher reward, or of votes
    whose answer is on the right side of the reference point. The reference point of KTO is that of a micro-batch.
    """

    validation_modes: ClassVar[Mapping[str, str]] = {f"val/{name}": mode for name, mode in _MODES.items()}
    metric_names = tuple(f"train/{name}" for name in _REWARDS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reference: Tensor | None = None  # (sequences,) float32, on the CPU
        self._rewards: list[Tensor] = []  # sums of each micro-batch since the last step or in this validation, (5,)
        self._units = 0  # in them
        self._step_rewards, self._step_units = self._rewards, 0  # of the last finished step
        self._step_metrics: Mapping[str, float] | None = {}  # their means; None: not computed yet

    def on_train_start(self) -> None:
        super().on_train_start()
        if self._reference is None:
            started = time.perf_counter()
            self._reference = self._reference_log_probs()
            get_console().print(
                f"computed the reference's log-probabilities of {len(self._reference):,} answers in "
                f"{time.perf_counter() - started:.1f} s",
                highlight=False,
            )

    def prepare(self, batch: Batch, *, training: bool) -> StepBatch:
        prepared = super().prepare(batch, training=training)
        units = len(batch["sequence_ids"]) // 2
        prepared.units = 0 if int(batch["sequence_ids"][0]) < 0 else units  # a batch may be without
        if isinstance(self._objective, KTO):
            first, second = (super(PreferenceModule, self).prepare(part, training=training) for part in _halves(batch))
            prepared.halves = first, second
            prepared.computed = first.computed.plus(second.computed, 1 / 3)
        return prepared

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self._step_rewards, self._step_units = self._rewards, self._units
        self._rewards, self._units = [], 0
        self._step_metrics = None if self._defers else self._metrics("train", self._step_rewards, self._step_units)

    @property
    def step_metrics(self) -> Mapping[str, float]:
        """The rewards of the last finished step; waits for the device if they are still there."""
        if self._step_metrics is None:
            self._step_metrics = self._metrics("train", self._step_rewards, self._step_units)
        return self._step_metrics

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._rewards, self._units = [], 0  # validation runs between two steps

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log_dict(self._metrics("val", self._rewards, self._units), logger=False, rank_zero_only=True)
        self._rewards, self._units = [], 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["reference_log_probs"] = self._reference

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._reference = checkpoint["reference_log_probs"].clone()

    def training_loss(self, batch: StepBatch) -> Tensor:
        return self._loss_of(batch)

    def _validation_loss(self, batch: StepBatch) -> Tensor:
        return self._loss_of(batch)

    def _loss_of(self, batch: StepBatch) -> Tensor:
        """The sum of the losses of a micro-batch's units, () float32."""
        if not batch.units:  # the other ranks wait for what this one computes
            if batch.halves is not None:
                with torch.no_grad():
                    self._log_probs(batch.halves[1])
                self._mean_divergence(None, 0)
            return self._log_probs(batch).sum() * 0
        return (self._dpo(batch) if isinstance(self._objective, DPO) else self._kto(batch)).sum()

    def _dpo(self, batch: StepBatch) -> Tensor:
        objective = self._objective
        assert isinstance(objective, DPO)
        rewards = objective.beta * (self._log_probs(batch) - self._reference_of(batch))  # (2 n,)
        chosen, rejected = rewards.chunk(2)
        ones = torch.ones_like(chosen)
        self._record(rewards, torch.cat([ones, 1 - ones]).bool(), correct=chosen > rejected)
        return dpo_losses(chosen, rejected, objective.label_smoothing)

    def _kto(self, batch: StepBatch) -> Tensor:
        objective = self._objective
        assert isinstance(objective, KTO) and batch.halves is not None
        reference, reference_of_others = self._reference_of(batch).chunk(2)  # (n,) each
        answers, others = batch.halves
        with torch.no_grad():  # the divergence is an estimate that no gradient flows through
            divergences = self._log_probs(others) - reference_of_others
            mean = self._mean_divergence(divergences.sum(), len(divergences))
            point = (objective.beta * mean.clamp(min=0)).float()
        rewards = objective.beta * (self._log_probs(answers) - reference)
        desirable = batch["desirable"]
        correct = torch.where(desirable, rewards > point, rewards < point)
        self._record(rewards, desirable, correct=correct)
        return kto_losses(rewards, desirable, point, objective.desirable_weight, objective.undesirable_weight)

    def _mean_divergence(self, total: Tensor | None, count: int) -> Tensor:
        """The mean over all ranks, () float64, of divergences that sum to `total`; several ranks wait for it."""
        if total is not None and self.trainer.world_size == 1:
            return total.double() / count
        summed, counted = self.sum_over_ranks(0.0 if total is None else float(total), count)
        return torch.tensor(summed / max(1, counted), dtype=torch.float64, device=self.device)

    def _log_probs(self, batch: StepBatch) -> Tensor:
        """(rows,) float32: the log-probability of each row's answer."""
        hidden, at = self._hidden_states(batch), batch["supervised_at"]
        return sequence_log_probs(hidden, self.model.head_weight, batch["labels"], supervised_at=at)

    def _reference_of(self, batch: Batch) -> Tensor:
        assert self._reference is not None
        return to_device(self._reference[batch["sequence_ids"]], self.device)

    @torch.no_grad()
    def _reference_log_probs(self) -> Tensor:
        """The log-probability of every answer under the present weights, (sequences,) float32, on the CPU."""
        data: object = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it in fit
        assert isinstance(data, PreferenceDataModule)
        result = torch.zeros(data.sequence_count, dtype=torch.float64)
        self.model.eval()
        with self.trainer.precision_plugin.forward_context():
            for batch in data.reference_batches():
                prepared = self.prepare(batch, training=False)
                log_probs = self._log_probs(prepared.to_device(self.device))  # ranks wait for one another
                if prepared.units:
                    result[batch["sequence_ids"]] = log_probs.cpu().double()
        self.model.train()
        if self.trainer.world_size > 1:  # each rank has computed its share
            result = self.trainer.strategy.reduce(result.to(self.device), reduce_op="sum").cpu()
        return result.float()

    def _record(self, rewards: Tensor, is_chosen: Tensor, *, correct: Tensor) -> None:
        """Add the rewards (n,) of answers, those chosen or desirable, and which units (m,) have correct ones."""
        rewards, zero = rewards.detach(), torch.zeros_like(rewards)
        chosen, rejected = torch.where(is_chosen, rewards, zero), torch.where(is_chosen, zero, rewards)
        sums = [chosen.sum(), is_chosen.sum(), rejected.sum(), (~is_chosen).sum(), correct.sum()]
        self._rewards.append(torch.stack([each.double() for each in sums]))
        self._units += len(correct)

    def _metrics(self, prefix: str, rewards: Sequence[Tensor], units: int) -> Mapping[str, float]:
        """The metrics of recorded micro-batches on all ranks, without those of which there are none."""
        sums = torch.stack(list(rewards)).sum(0).tolist() if rewards else [0.0] * 5
        sums = self.sum_over_ranks(*sums, units)
        means = {
            name: total / count
            for name, total, count in zip(("chosen", "rejected", "accuracy"), sums[::2], sums[1::2], strict=True)
            if count
        }
        if "chosen" in means and "rejected" in means:
            means["margin"] = means["chosen"] - means["rejected"]
        return {f"{prefix}/reward_{name}": means[name] for name in means}


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    """The rows of the first sequences of all units, and those of the second ones."""
    rows = len(batch["sequence_ids"]) // 2
    whole = {name: value for name, value in batch.items() if name != "desirable"}
    return {name: value[:rows] for name, value in whole.items()}, {name: value[rows:] for name, value in whole.items()}
