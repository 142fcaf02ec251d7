"""Lightning's own loop on fake CUDA tensors: `fit` with a validation, averaged weights and a run's callbacks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.optim.lr_scheduler import LambdaLR

from data.loader import FixedLoader, TrainLoader
from data.module import SFTDataModule
from data.sources import BasicsSource
from resonance.chat_template import ChatTemplate
from resonance.model import GPT2, GPT2Config
from tests.fake_cuda.transfers import Transfers
from train.callbacks.metrics_csv import MetricsCSV, read_metrics
from train.callbacks.spikes import SpikeReport
from train.flash_attention import use_flash_attention
from train.objectives import SFT
from train.optimizers import adamw
from train.sft_module import SFTModule
from train.trainer import make_trainer

CUDA = torch.device("cuda", 0)
CONFIG = GPT2Config(context_length=128, n_layer=1, n_head=2, n_embd=64, dropout=0.0)
LOADERS = "lightning/pytorch/utilities/data.py: has_len_all_ranks"  # once at a loader's start
SETTLE = "train/step_record.py: floats"  # the losses and norms of a logged row's steps, and a validation's losses


class FakeCuda(CPUAccelerator):
    """Lightning's accelerator of the fake device."""

    def setup_device(self, device: torch.device) -> None:
        assert device == CUDA


class OneFakeGpu(SingleDeviceStrategy):
    """Lightning's strategy of one device, for a model that is there."""

    def model_to_device(self) -> None:
        assert self.lightning_module is not None
        self.lightning_module._device = self.root_device  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]  # as Lightning does

    def teardown(self) -> None:
        pass


@pytest.fixture(autouse=True)
def real_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for loader in (TrainLoader, FixedLoader):  # data is real
        monkeypatch.setattr(loader, "__iter__", really(loader.__iter__))
    # Lightning copies its records of what is logged by their storage, which fakes do not have.
    monkeypatch.setattr(SFTModule, "log", lambda self, *entry, **_: self.trainer.callback_metrics.update([entry]))
    for owner, name in ((SFTModule, "prepare"), (SFTDataModule, "val_dataloader"), (SFTDataModule, "train_dataloader")):
        monkeypatch.setattr(owner, name, without_fakes(getattr(owner, name)))


def without_fakes(function: Any) -> Any:
    """A function of the CPU's own tensors."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return function(*args, **kwargs)

    return call


def really(iterate: Any) -> Any:
    def batches(loader: Any) -> Iterator[Any]:
        iterator = iterate(loader)
        while (batch := without_fakes(next)(iterator, None)) is not None:
            yield batch

    return batches


@pytest.mark.parametrize("ema", [None, 0.9], ids=["plain", "averaged"])
def test_a_fit_waits_for_the_device_only_at_logged_rows_and_validations(ema: float | None, tmp_path: Path) -> None:
    data = SFTDataModule(
        BasicsSource(train_size=40, validation_size=8, test_size=4),
        ChatTemplate.named("alpaca"),
        context_length=CONFIG.context_length,
        batch_size=2,
    )
    data.setup()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, CUDA:
        model = GPT2(CONFIG).train()
        by_document = use_flash_attention(model, CUDA, "bf16-mixed")
    trainer = make_trainer(
        folder=tmp_path,
        callbacks=[MetricsCSV(tmp_path), SpikeReport(3.0, 6.0, 50)],
        data=data,
        max_steps=4,
        max_epochs=None,
        accumulate_grad_batches=2,
        val_every_n_steps=4,
        accelerator=FakeCuda(),  # pyright: ignore[reportArgumentType]  # Lightning takes accelerators as well
        precision="bf16-mixed",
        deterministic="auto",
        profiler=None,
        strategy=OneFakeGpu(CUDA),
        log_every_n_steps=2,
        gradient_clip_val=1.0,
    )
    module = SFTModule(
        model,
        lambda model: adamw(model, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
        lambda optimizer, steps: LambdaLR(optimizer, lambda step: 1.0),
        0,
        objective=SFT(ema_decay=ema),
        by_document=by_document,
    )
    with mode, Transfers() as transfers:
        trainer.fit(module, datamodule=data)
    assert trainer.global_step == 4
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == ["2", "4"]
    assert rows[-1]["val/loss"] == "0.0"  # fake tensors read as zeros
    assert transfers.places == {SETTLE: 3, LOADERS: 3}
