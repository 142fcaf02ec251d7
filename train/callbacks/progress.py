"""A progress bar over the run; plain lines without a terminal."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich import get_console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from train.callbacks.throughput import Throughput, logged_every
from train.callbacks.utilization import peak_memory_mb, utilization_of
from train.sft_module import Batch, SFTModule


class ProgressBar(Callback):
    """Shows steps, loss, learning rate, gradient norm, tokens/s, utilization, memory, elapsed and remaining time."""

    def __init__(self) -> None:
        self._console = get_console()
        self._progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._throughput, self._flops = Throughput(), Throughput()
        self._shown_step, self._started = 0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown_step = trainer.global_step
        self._task = self._progress.add_task(
            "", total=int(trainer.estimated_stepping_batches), completed=trainer.global_step, numbers=""
        )
        self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SFTModule) and self._task is not None
        step = trainer.global_step
        if step == self._shown_step:
            return
        self._shown_step = step
        if step % logged_every(trainer) and pl_module.device.type != "cpu":  # a GPU would be waited for
            self._progress.update(self._task, completed=step)
            return
        numbers = f"loss {pl_module.step_loss:.3f}  lr {pl_module.step_lr:.1e}  grad {pl_module.step_grad_norm:.2g}"
        if step % logged_every(trainer) == 0:
            numbers += f"  {self._throughput.lap(pl_module.tokens_seen):,.0f} tokens/s"
            utilization = utilization_of(trainer)
            if utilization is not None and utilization.peak:
                numbers += f"  mfu {self._flops.lap(utilization.flops(pl_module)) / utilization.peak:.0%}"
            numbers += f"  {peak_memory_mb(pl_module.device) / 1000:.1f} GB"
            if not self._console.is_terminal:
                self._console.print(f"step {step}/{int(trainer.estimated_stepping_batches)}  {numbers}")
        self._progress.update(self._task, completed=step, numbers=numbers)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if self._started:
            return
        assert isinstance(pl_module, SFTModule)
        self._started, utilization = True, utilization_of(trainer)
        self._throughput.start(pl_module.tokens_seen)
        self._flops.start(0.0 if utilization is None else utilization.flops(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._throughput.pause()
        self._flops.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._throughput.go_on()
        self._flops.go_on()
        if not trainer.sanity_checking:
            value = float(trainer.callback_metrics["val/loss"])
            self._console.print(f"step {trainer.global_step}  val/loss {value:.4f}", highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._progress.stop()
