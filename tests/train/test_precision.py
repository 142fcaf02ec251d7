"""A run uses the configured precision, or is refused."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.plugins import MixedPrecision
from omegaconf import OmegaConf
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from resonance.hydra_config import ConfigError
from resonance.model import GPT2, GPT2Config
from train import run
from train.precision import resolve_accelerator, resolve_deterministic, resolve_precision
from train.sft_module import SFTModule

TINY = GPT2Config(n_layer=1, n_head=2, n_embd=8, context_length=8, vocab_size=61, dropout=0.0)


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        {
            "input_ids": torch.randint(0, 61, (2, 8), generator=generator),
            "labels": torch.randint(0, 61, (2, 8), generator=generator),
            "position_ids": torch.arange(8).repeat(2, 1),
            "document_ids": torch.zeros(2, 8, dtype=torch.long),
        }
        for _ in range(count)
    ]


class Recorded(SFTModule):
    """Keeps the norms of its gradients: before clipping, and as the optimiser takes them."""

    def on_train_start(self) -> None:
        self.norms: list[float] = []
        self.taken: list[float] = []

    def configure_gradient_clipping(self, *arguments, **more) -> None:
        super().configure_gradient_clipping(*arguments, **more)
        self.norms.append(self.step_grad_norm)
        self.taken.append(float(torch.stack([p.grad.norm() for p in self.model.parameters()]).norm()))


def trained(folder: Path, scaler: torch.amp.GradScaler | None, *, fused: bool, accumulate: int = 2) -> Recorded:
    torch.manual_seed(0)
    module = Recorded(
        GPT2(TINY),
        lambda model: AdamW(model.parameters(), lr=1e-2, fused=fused),
        lambda optimizer, steps: LambdaLR(optimizer, lambda step: 1.0),
        seed=0,
    )
    trainer = Trainer(
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=0.01,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)] if scaler else None,
    )
    trainer.fit(module, DataLoader(batches(8), batch_size=None))
    return module


@pytest.mark.parametrize("fused", [True, False])
def test_with_fp16_scaling_the_gradient_is_clipped_and_logged_without_its_scale(tmp_path: Path, fused: bool) -> None:
    plain = trained(tmp_path, None, fused=fused)
    scaled = trained(tmp_path, torch.amp.GradScaler("cpu", init_scale=256.0), fused=fused)
    assert scaled.norms == pytest.approx(plain.norms, rel=0.02)
    assert scaled.taken == pytest.approx([0.01] * 4, rel=1e-3)
    for ours, theirs in zip(scaled.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=5e-3)


def test_a_gradient_that_overflows_by_its_scale_costs_a_step_and_not_the_run(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    module = trained(tmp_path, scaler, fused=True, accumulate=1)
    assert not math.isfinite(module.norms[0])
    assert scaler.get_scale() < 2.0**30
    assert all(torch.isfinite(weight).all() for weight in module.model.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which 16-mixed is for")
@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
@pytest.mark.parametrize("name", ["16-mixed", "16"])
def test_16_mixed_is_refused_where_it_would_be_something_else(name: str, accelerator: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixed needs a CUDA GPU"):
        resolve_precision(name, accelerator)


def test_16_true_is_refused_as_it_does_not_learn() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-true is refused: .* use (32-true|bf16-mixed)"):
        resolve_precision("16-true", "cpu")


def test_short_names_and_auto_become_the_precision_that_is_meant() -> None:
    assert [resolve_precision(name, "cpu") for name in ("bf16", 32, "64-true")] == ["bf16-mixed", "32-true", "64-true"]
    assert resolve_precision("auto", "cpu") in ("bf16-mixed", "32-true")


def test_apples_gpu_is_never_taken_and_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_accelerator("auto") == resolve_accelerator("cpu") == "cpu"
    for accelerator in ("mps", "gpu"):
        with pytest.raises(ConfigError, match=rf"trainer\.accelerator={accelerator} is refused: .* use .*=cpu\.$"):
            resolve_accelerator(accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_accelerator("auto") == resolve_accelerator("gpu") == "gpu"


def test_deterministic_algorithms_are_off_by_default_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_deterministic("auto", "cpu") == "warn"
    assert resolve_deterministic(True, "gpu") is True
    with pytest.raises(ConfigError, match=r"auto, warn, true or false, not 'yes'"):
        resolve_deterministic("yes", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_deterministic("auto", "gpu") is False
    assert resolve_deterministic("auto", "cpu") == "warn"


@pytest.mark.parametrize(("value", "said"), [("auto", True), (True, False)])
def test_a_run_on_a_gpu_says_that_two_runs_differ_unless_deterministic(value: object, said: bool) -> None:
    config = OmegaConf.create({"trainer": {"deterministic": value}, "optimizer": {"_target_": "adamw"}})
    strategy = SimpleNamespace(root_device=torch.device("cuda", 0))
    initial: Any = SimpleNamespace(model=GPT2(TINY), base=None)
    trainer: Any = SimpleNamespace(strategy=strategy, precision="32-true")
    notes = run._notes(config, initial, trainer)
    assert any("trainer.deterministic=true makes them equal" in note for note in notes) is said
