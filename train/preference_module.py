"""The Lightning module of preference training: DPO on pairs of answers, KTO on votes."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from rich import get_console
from torch import Tensor

from data.preference_module import PreferenceDataModule
from train.objectives import DPO, KTO
from train.preference_losses import dpo_losses, kto_losses, sequence_log_probs
from train.sft_module import Batch, SFTModule

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
        self._sums: Counter[str] = Counter()  # of rewards and their counts, since the last step or in this validation

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

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.step_metrics = self._metrics("train")

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._sums.clear()  # validation runs between two steps

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log_dict(self._metrics("val"), logger=False, rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["reference_log_probs"] = self._reference

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._reference = checkpoint["reference_log_probs"].clone()

    def _training_loss(self, batch: Batch) -> tuple[Tensor, int]:
        return self._loss(batch)

    def _validation_loss(self, batch: Batch) -> tuple[Tensor, int]:
        return self._loss(batch)

    def _loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The sum of the losses of a micro-batch's units, and their number."""
        if int(batch["sequence_ids"][0]) < 0:  # a batch without units
            if isinstance(self._objective, KTO):
                self.sum_over_ranks(0.0, 0)  # the other ranks wait for it
            return self._log_probs(batch).sum() * 0, 0
        losses = self._dpo(batch) if isinstance(self._objective, DPO) else self._kto(batch)
        return losses.sum(), len(losses)

    def _dpo(self, batch: Batch) -> Tensor:
        objective = self._objective
        assert isinstance(objective, DPO)
        rewards = objective.beta * (self._log_probs(batch) - self._reference_of(batch))  # (2 n,)
        chosen, rejected = rewards.chunk(2)
        self._record(chosen, rejected, correct=chosen > rejected)
        return dpo_losses(chosen, rejected, objective.label_smoothing)

    def _kto(self, batch: Batch) -> Tensor:
        objective = self._objective
        assert isinstance(objective, KTO)
        reference, reference_of_others = self._reference_of(batch).chunk(2)  # (n,) each
        answers, others = _halves(batch)
        with torch.no_grad():  # the divergence is an estimate that no gradient flows through
            divergences = self._log_probs(others) - reference_of_others
            total, count = self.sum_over_ranks(float(divergences.sum()), len(divergences))
        point = torch.tensor(objective.beta * max(0.0, total / count), device=self.device)
        rewards = objective.beta * (self._log_probs(answers) - reference)
        desirable = batch["desirable"]
        correct = torch.where(desirable, rewards > point, rewards < point)
        self._record(rewards[desirable], rewards[~desirable], correct=correct)
        return kto_losses(rewards, desirable, point, objective.desirable_weight, objective.undesirable_weight)

    def _log_probs(self, batch: Batch) -> Tensor:
        """(rows,) float32: the log-probability of each row's answer."""
        return sequence_log_probs(self._hidden_states(batch), self.model.head_weight, batch["labels"])

    def _reference_of(self, batch: Batch) -> Tensor:
        assert self._reference is not None
        return self._reference[batch["sequence_ids"].cpu()].to(self.device)

    @torch.no_grad()
    def _reference_log_probs(self) -> Tensor:
        """The log-probability of every answer under the present weights, (sequences,) float32, on the CPU."""
        data: object = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it in fit
        assert isinstance(data, PreferenceDataModule)
        result = torch.zeros(data.sequence_count, dtype=torch.float64)
        self.model.eval()
        with self.trainer.precision_plugin.forward_context():
            for batch in data.reference_batches():
                ids, moved = batch["sequence_ids"], {name: value.to(self.device) for name, value in batch.items()}
                if int(ids[0]) >= 0:
                    result[ids] = self._log_probs(moved).cpu().double()
        self.model.train()
        if self.trainer.world_size > 1:  # each rank has computed its share
            result = self.trainer.strategy.reduce(result.to(self.device), reduce_op="sum").cpu()
        return result.float()

    def _record(self, chosen: Tensor, rejected: Tensor, *, correct: Tensor) -> None:
        sums = {
            "chosen": float(chosen.detach().sum()),
            "rejected": float(rejected.detach().sum()),
            "correct": float(correct.sum()),
            "chosen_count": len(chosen),
            "rejected_count": len(rejected),
            "count": len(correct),
        }
        for name, value in sums.items():
            self._sums[name] += value  # pyright: ignore[reportArgumentType]  # a Counter adds floats as well

    def _metrics(self, prefix: str) -> Mapping[str, float]:
        """The metrics of the recorded units on all ranks, without those of which there are none; starts anew."""
        names = ("chosen", "chosen_count", "rejected", "rejected_count", "correct", "count")
        sums = self.sum_over_ranks(*(float(self._sums[name]) for name in names))
        self._sums.clear()
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
