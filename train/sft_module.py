"""The Lightning module of supervised fine-tuning: model, objective and gradient averaging."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from data.module import SFTDataModule
from resonance import lora
from resonance.model import GPT2
from train.checkpointing import check_same_adapter
from train.ema import WeightAverage
from train.fsdp import whole_model
from train.losses import supervised_loss
from train.neftune import noisy_embeddings
from train.non_finite import MicroBatch, check_step, check_validation, check_weights
from train.objectives import SFT, Objective
from train.sampled_softmax import Candidates, SampledSoftmax
from train.step_batch import Batch, Computed, StepBatch, prepare
from train.step_record import StepRecord, StepRecords, floats

__all__ = ["Batch", "SFTModule"]


class SFTModule(LightningModule):
    """Supervised fine-tuning in which all supervised tokens of a step have the same weight.

    A step's loss is the mean over the supervised tokens of all its micro-batches on all ranks. Micro-batches accumulate
    sums, and the gradient is divided by the number of tokens before the step, so the split into micro-batches does not
    change the result. `softmax` samples the tokens of training's softmax (None: all); validation uses all. With an
    adapter, only the adapter trains and is saved in Lightning's state. `trained_length` is the longest conversation in
    training, for callbacks that ask the model. The options of `objective` apply to training; validation measures the
    mean loss over the answers' tokens, of the averaged weights if there are any.

    On one GPU no step waits for the device: losses and norms stay there until `settle`, which reading `step_loss` or
    `step_grad_norm`, a validation and a save call. Elsewhere each step is settled before it is taken.
    `by_document` says that the model's attention takes documents on this device, too; otherwise a GPU gets a mask.
    """

    validation_modes: ClassVar[Mapping[str, str]] = {}  # further scores of validation: `max` where more is better
    metric_names: ClassVar[Sequence[str]] = ()  # of `step_metrics`

    def __init__(
        self,
        model: GPT2,
        make_optimizer: Callable[[GPT2], Optimizer],
        make_schedule: Callable[[Optimizer, int], LRScheduler],
        seed: int,
        softmax: SampledSoftmax | None = None,
        *,
        trained_length: int | None = None,
        objective: Objective | None = None,
        by_document: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.trained_length = model, trained_length
        self._adapter = lora.describe(model)
        self.strict_loading = self._adapter is None  # with an adapter, the state omits frozen weights
        self._make_optimizer, self._make_schedule = make_optimizer, make_schedule
        self._settings: list[dict[str, Any]] = []  # of the optimiser's parameter groups, from the config
        self._seed, self._softmax = seed, softmax
        self._candidates: Candidates | None = None  # the tokens of the present micro-batch's softmax
        self._objective = SFT() if objective is None else objective
        decay = self._objective.ema_decay
        self._average = None if decay is None else WeightAverage(model, decay)
        self._validated_weights = ExitStack()  # holds the averages in the model during a validation
        self.tokens_seen = 0  # on all ranks, without padding
        self.computed = Computed()  # of all steps on all ranks since this process began
        self._step_supervised = 0  # of the present step, on all ranks
        self._gradient_scale = 1.0  # of the present step: makes the gradient of the losses' sum that of their mean
        self._step_loss: float | None = None  # its mean loss; None: still on the device
        self.step_lr = float("nan")  # of the last finished step
        self._steps = StepRecords(self._check)
        self._by_document = by_document
        self._micro_batches: list[MicroBatch] = []  # since the last step
        self._supervised = self._tokens = 0  # in the micro-batches, on this rank
        self._computed = Computed()
        self._val_losses: list[Tensor] = []
        self._val_supervised = 0

    def on_train_start(self) -> None:
        # The state of a resumed run restores its saved optimiser settings; the config overrides them.
        optimizer, schedule = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
        for group, settings in zip(optimizer.param_groups, self._settings, strict=True):
            factor = group["lr"] / group["initial_lr"]
            group.update({key: value for key, value in settings.items() if key != "lr"})
            group["lr"] = settings["initial_lr"] * factor
        if isinstance(schedule, LambdaLR):
            schedule.base_lrs = [settings["initial_lr"] for settings in self._settings]
            for group, base, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
                group["lr"] = base * factor(schedule.last_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # The seed depends on the position in training only, so that a resumed run draws the same dropout.
        done, parts = self.trainer.fit_loop.total_batch_idx, self._parts
        torch.manual_seed(self._seed_of(done // parts))
        self.sample_softmax()  # the same tokens in all batches that processes train on at once
        if self.global_rank or parts > 1:
            torch.manual_seed(self._seed_of(done) + self.global_rank)

    def sample_softmax(self) -> None:
        """Draw the tokens of the next micro-batch's softmax, by torch's generator, where it is sampled."""
        if self._softmax is not None:
            self._candidates = self._softmax.sample(self.device, len(lora.head_rows(self.model)[0]))

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> StepBatch:
        return self.prepare(batch, training=self.trainer.training)

    def transfer_batch_to_device(self, batch: StepBatch, device: torch.device, dataloader_idx: int) -> StepBatch:
        return batch.to_device(device)

    def prepare(self, batch: Batch, *, training: bool) -> StepBatch:
        """Add the numbers that `training_step` or `validation_step` needs, on the CPU."""
        return prepare(batch, self._objective if training else None)

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        loss = self.training_loss(batch)
        self._micro_batches.append(MicroBatch(batch_idx, loss.detach(), batch["document_ids"]))
        self._supervised += batch.units
        self._tokens += batch.tokens
        self._computed = self._computed.plus(batch.computed)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        scaler = self._grad_scaler
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # Lightning leaves it to a fused optimiser's step, which follows clipping
        # Several ranks wait for one another anyway.
        loss = 0.0 if self._defers else sum(floats([batch.loss for batch in self._micro_batches]))
        loss_sum, supervised, tokens, *computed = self.sum_over_ranks(
            loss, self._supervised, self._tokens, *self._computed
        )
        # Lightning divides each loss by the number of micro-batches, and DDP the gradient by the number of ranks.
        self._gradient_scale = self.trainer.accumulate_grad_batches * self.trainer.world_size / max(1, supervised)
        self._step_loss = None if self._defers else loss_sum / max(1, supervised)
        self.step_lr = optimizer.param_groups[0]["lr"]
        self.tokens_seen += int(tokens)
        self.computed = self.computed.plus(Computed(*computed))
        self._step_supervised = int(supervised)
        self._supervised, self._tokens, self._computed = 0, 0, Computed()

    @property
    def head_size(self) -> int:
        """The number of tokens that training's softmax covers."""
        return self.model.config.vocab_size if self._softmax is None else len(self._softmax)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.zero_grad()  # frees the gradients' memory for the next forward pass
        if self._average is not None:
            self._average.update()

    def _served_weights(self) -> AbstractContextManager[None]:
        """A block in which the model has the weights that are validated and served: the averages if there are any."""
        return nullcontext() if self._average is None else self._average.applied()

    @contextmanager
    def served_model(self) -> Generator[GPT2]:
        """A block with the model as it is served; all ranks enter it, and rank 0 has the whole weights there."""
        with self._served_weights():
            yield whole_model(self.model)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning's own clipping refuses fused optimisers, whose gradients would still be scaled with fp16. The sums
        # over tokens become means and are clipped in one pass.
        limit = float("inf") if gradient_clip_val is None else gradient_clip_val
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients) * self._gradient_scale
        factor = (limit / (norm + 1e-6)).clamp(max=1.0) * self._gradient_scale
        torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateUsage]  # as torch's own clipping does
        if isinstance(norm, DTensor):  # of gradients that ranks share
            norm = norm.full_tensor()
        step, batches, self._micro_batches = self.trainer.global_step + 1, self._micro_batches, []
        self._steps.add(StepRecord(step, self.step_lr, self._step_supervised, norm, batches, self._step_loss))
        if not self._defers:
            self.settle()

    def _check(self, record: StepRecord, loss: float, grad_norm: float) -> None:
        scaler = self._grad_scaler
        overflowed = not math.isfinite(grad_norm) and math.isfinite(loss)
        # fp16's scaler skips a step whose gradient overflows, and halves its scale; below 1 that no longer helps.
        if not (overflowed and scaler is not None and scaler.get_scale() >= 1):
            check_step(self.trainer, record.step, loss, grad_norm, record.lr, record.micro_batches)

    @property
    def _defers(self) -> bool:
        """Whether the numbers of steps stay on the device; fp16's scaler and several ranks need them at each step."""
        return self.device.type == "cuda" and self.trainer.world_size == 1 and self._grad_scaler is None

    @property
    def step_metrics(self) -> Mapping[str, float]:
        """Further metrics of the last finished step."""
        return {}

    def settle(self) -> None:
        """Bring the numbers of the steps since the last call from the device, all at once, and check them.

        Raises NonFiniteError for the first step with a loss or gradient that is not finite.
        """
        self._steps.settle()

    def settled_steps(self) -> list[tuple[int, float, float]]:
        """The steps with their loss and gradient norm that were settled since the last call; waits for nothing."""
        return self._steps.take_settled()

    @property
    def step_loss(self) -> float:
        """The last finished step's mean loss over supervised tokens."""
        self.settle()
        return self._steps.loss

    @property
    def step_grad_norm(self) -> float:
        """The last finished step's gradient norm before clipping."""
        self.settle()
        return self._steps.grad_norm

    def on_validation_start(self) -> None:
        self.settle()
        self._validated_weights.enter_context(self._served_weights())

    def on_validation_end(self) -> None:
        self._validated_weights.close()

    def on_validation_epoch_start(self) -> None:
        self._val_losses, self._val_supervised = [], 0

    def validation_step(self, batch: StepBatch, batch_idx: int) -> dict[str, Tensor | int]:
        """Return the batch's () sum of losses, on the device, and the number of supervised tokens, for callbacks."""
        loss = self._validation_loss(batch).detach()
        self._val_losses.append(loss)
        self._val_supervised += batch.units
        return {"loss_sum": loss, "supervised": batch.units}

    def on_validation_epoch_end(self) -> None:
        loss_sum, supervised = self.sum_over_ranks(sum(floats(self._val_losses)), self._val_supervised)
        loss = loss_sum / max(1, supervised)
        check_validation(self.trainer, loss)
        self.log("val/loss", loss, logger=False, rank_zero_only=True)  # `MetricsCSV` sends it to the loggers

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self._make_optimizer(self.model)
        schedule = self._make_schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        self._settings = [
            {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.settle()
        check_weights(self.trainer, self.model)
        checkpoint["tokens_seen"] = self.tokens_seen
        checkpoint["adapter"] = self._adapter
        if self._average is not None:
            checkpoint["ema"] = self._average.state_dict()
        trainable = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if name in trainable
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_same_adapter(checkpoint.get("adapter"), self._adapter)
        self.tokens_seen = checkpoint["tokens_seen"]
        if self._average is not None:
            self._average.load_state_dict(checkpoint["ema"])

    def _seed_of(self, batches: int) -> int:
        """The seed after that many batches; those of different ranks follow one another."""
        return (self._seed * 1_000_003 + batches) * 1_009

    @property
    def _parts(self) -> int:
        """The batches of this process that stand for one, see `data.packing.Shares`."""
        data: object = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it in fit
        return data.shares.parts if isinstance(data, SFTDataModule) else 1

    @property
    def _grad_scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler of precision 16-mixed; None for others."""
        plugin = self.trainer.precision_plugin
        return plugin.scaler if isinstance(plugin, MixedPrecision) else None

    def training_loss(self, batch: StepBatch) -> Tensor:
        """The sum of a micro-batch's losses, () float32."""
        objective = self._objective
        assert isinstance(objective, SFT)
        with noisy_embeddings(self.model, batch.get("document_sizes"), objective.neftune_alpha):
            hidden = self._hidden_states(batch)
        head, new_rows = lora.head_rows(self.model)  # after the model, which gathers it where weights are sharded
        loss, _ = supervised_loss(
            hidden,
            head,
            batch["labels"],
            self._candidates,
            new_rows=new_rows,
            weights=batch.get("weights"),
            label_smoothing=objective.label_smoothing,
            supervised_at=batch["supervised_at"],
        )
        return loss

    def _validation_loss(self, batch: StepBatch) -> Tensor:
        """The sum of a batch's losses, () float32."""
        hidden, at = self._hidden_states(batch), batch["supervised_at"]
        head, new_rows = lora.head_rows(self.model)
        return supervised_loss(hidden, head, batch["labels"], new_rows=new_rows, supervised_at=at)[0]

    def _hidden_states(self, batch: StepBatch) -> Tensor:
        on_cpu = batch["input_ids"].is_cpu
        plain = batch.one_document_a_row and not on_cpu  # causal attention alone: nothing attends to padding
        return self.model(
            batch["input_ids"],
            position_ids=batch["position_ids"],
            document_ids=None if plain else batch["document_ids"],
            documents=batch.documents if on_cpu or (self._by_document and not plain) else None,
            return_hidden_states=True,
        )  # (B, T, C)

    def sum_over_ranks(self, *numbers: float) -> list[float]:
        """The sum of each number over all ranks."""
        if self.trainer.world_size == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        return self.trainer.strategy.reduce(summed, reduce_op="sum").tolist()
