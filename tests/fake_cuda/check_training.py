"""Training steps on fake CUDA tensors: every device and type is checked, and every wait for the device is listed."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.lr_scheduler import LambdaLR

import resonance.model
from resonance import lora
from resonance.lora_layers import LoraConfig
from resonance.model import GPT2, GPT2Config
from tests.fake_cuda.transfers import Transfers
from train import flash_attention
from train.activation_checkpointing import checkpoint_activations
from train.flash_attention import use_flash_attention
from train.objectives import DPO, KTO, SFT, Objective
from train.optimizers import adamw, muon
from train.preference_module import PreferenceModule
from train.sft_module import SFTModule

CONFIG = GPT2Config(vocab_size=320, context_length=64, n_layer=1, n_head=2, n_embd=64, dropout=0.0)
CUDA = torch.device("cuda", 0)
SETTLE = "train/step_record.py: floats"  # losses and norms, where a row is logged, before validations and saves
STEPS = 2

# The rows of a batch by the lengths of their documents; the rest is padding.
Rows = tuple[tuple[int, ...], ...]
PACKED, PADDED = ((20, 30, 14), (60,), (5, 7)), ((40,), (12,), (64,))


@pytest.fixture
def mode() -> Iterator[FakeTensorMode]:
    yield FakeTensorMode(allow_non_fake_inputs=True)


def batch(rows: Rows) -> dict[str, Tensor]:
    shape = (len(rows), CONFIG.context_length)
    document_ids, labels = torch.full(shape, -1), torch.full(shape, -100)
    number = 0
    for row, lengths in enumerate(rows):
        start = 0
        for length in lengths:
            document_ids[row, start : start + length] = number
            labels[row, start + length // 2 : start + length - 1] = 7
            start, number = start + length, number + 1
    ids, positions = torch.randint(1, 300, shape), torch.arange(shape[1]).expand(shape).contiguous()
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "document_ids": document_ids}


def preferences() -> dict[str, Tensor]:
    rows = batch(((40,), (12,), (30,), (20,)))
    return {**rows, "sequence_ids": torch.arange(4), "desirable": torch.tensor([True, False])}


class Run:
    """Takes training steps as Lightning does, on fake CUDA tensors."""

    def __init__(self, mode: FakeTensorMode, precision: str, objective: Objective, **options: Any) -> None:
        self.mode, self.dtype = mode, torch.bfloat16 if precision.startswith("bf16") else None
        config: GPT2Config = options.get("config") or replace(CONFIG, dropout=options.get("dropout", 0.0))
        with mode, CUDA:
            model = GPT2(config)
            if options.get("adapter"):
                lora.inject(model, LoraConfig(rank=4, **options["adapter"]))
            model.train()
            by_document = use_flash_attention(model, CUDA, precision)
        if options.get("checkpointing"):
            checkpoint_activations(model)
        kind = SFTModule if isinstance(objective, SFT) else PreferenceModule
        make: Any = options.get("optimizer", _adamw)
        self.module = kind(
            model, make, lambda optimizer, steps: LambdaLR(optimizer, lambda step: 1.0), 0,
            objective=objective, by_document=by_document,
        )  # fmt: skip
        if isinstance(self.module, PreferenceModule):
            self.module._reference = torch.zeros(4)  # pyright: ignore[reportPrivateUsage]  # as a resumed run has it
        self.trainer: Any = SimpleNamespace(
            training=True, world_size=1, accumulate_grad_batches=2, global_step=0, precision_plugin=None
        )
        self.module._trainer = self.trainer  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]  # its setter takes Lightning's only
        self.module._device = CUDA  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]  # as Lightning does
        with mode:
            self.optimizer = make(model)

    def step(self, raw: dict[str, Tensor]) -> None:
        module, trainer = self.module, self.trainer
        for number in range(trainer.accumulate_grad_batches):
            prepared = module.on_before_batch_transfer(raw, 0)
            with self.mode:
                moved = module.transfer_batch_to_device(prepared, CUDA, 0)
                with torch.autocast("cuda", self.dtype, self.dtype is not None, cache_enabled=False):  # as Lightning
                    loss = module.training_step(moved, number)
                assert loss.device == CUDA and loss.dtype == torch.float32
                (loss / trainer.accumulate_grad_batches).backward()
        with self.mode:
            module.on_before_optimizer_step(self.optimizer)
            module.configure_gradient_clipping(self.optimizer, 1.0)
            self.optimizer.step()
            if module._average is not None:  # pyright: ignore[reportPrivateUsage]  # Lightning's loop would update it
                module._average.update()  # pyright: ignore[reportPrivateUsage]  # as above
            self.optimizer.zero_grad()
        trainer.global_step += 1


def _adamw(model: GPT2) -> Any:
    return adamw(model, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def _offloaded(model: GPT2) -> Any:
    return adamw(model, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, cpu_offload=True)


def _muon(model: GPT2) -> Any:
    return muon(model, lr=1e-2, momentum=0.9, weight_decay=0.1, adamw_lr=1e-3, adamw_betas=(0.9, 0.95), adamw_eps=1e-8)


OPTIONS = SFT(loss_on="all", weight="example", label_smoothing=0.1, neftune_alpha=5.0, ema_decay=0.99)
CASES: dict[str, tuple[str, Objective, dict[str, Tensor], dict[str, Any]]] = {
    "fp32 packed": ("32-true", SFT(), batch(PACKED), {}),
    "fp32 padded": ("32-true", SFT(), batch(PADDED), {}),
    "bf16 packed": ("bf16-mixed", SFT(), batch(PACKED), {}),
    "bf16 padded": ("bf16-mixed", SFT(), batch(PADDED), {}),
    "bf16 packed with dropout": ("bf16-mixed", SFT(), batch(PACKED), {"dropout": 0.1}),
    "options": ("bf16-mixed", OPTIONS, batch(PACKED), {}),
    "turns": ("bf16-mixed", SFT(weight="turn"), batch(PACKED), {}),
    "checkpointing": ("bf16-mixed", SFT(), batch(PACKED), {"checkpointing": True, "dropout": 0.1}),
    "offloaded": ("bf16-mixed", SFT(), batch(PACKED), {"optimizer": _offloaded}),
    "lora": ("bf16-mixed", SFT(), batch(PACKED), {"adapter": {"base_dtype": "bf16"}}),
    "lora over int8": ("bf16-mixed", SFT(), batch(PACKED), {"adapter": {"base_dtype": "int8"}}),
    "dora": ("bf16-mixed", SFT(), batch(PACKED), {"adapter": {"dora": True}}),
    "muon": ("bf16-mixed", SFT(), batch(PACKED), {"optimizer": _muon}),
    "dpo": ("bf16-mixed", DPO(), preferences(), {}),
    "dpo fp32": ("32-true", DPO(), preferences(), {}),
    "kto": ("bf16-mixed", KTO(), preferences(), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_wait_for_the_device_only_where_their_numbers_are_read(case: str, mode: FakeTensorMode) -> None:
    precision, objective, raw, options = CASES[case]
    run = Run(mode, precision, objective, **options)
    with Transfers() as transfers:
        for _ in range(STEPS):
            run.step(raw)
    assert not transfers.places
    with mode, Transfers() as transfers:
        assert run.module.step_loss == 0.0  # fake tensors read as zeros
        assert run.module.step_grad_norm == 0.0
    assert transfers.places == {SETTLE: 1}
    assert [step for step, _, _ in run.module.settled_steps()] == [1, 2]


@pytest.mark.parametrize(
    ("precision", "rows", "masks", "varlen"),
    [
        ("bf16-mixed", PACKED, 0, True),
        ("bf16-mixed", PADDED, 0, False),  # causal: nothing attends to padding
        ("32-true", PADDED, 0, False),
        ("32-true", PACKED, 2, False),  # FlashAttention has no float32
    ],
    ids=["bf16 packed", "bf16 padded", "fp32 padded", "fp32 packed"],
)
def test_attention_has_a_mask_only_where_nothing_else_can_compute_it(
    precision: str, rows: Rows, masks: int, varlen: bool, mode: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def count(name: str, original: Any) -> Any:
        return lambda *args, **kwargs: (made.append(name), original(*args, **kwargs))[1]

    monkeypatch.setattr(resonance.model, "document_mask", count("mask", resonance.model.document_mask))
    monkeypatch.setattr(flash_attention, "varlen_attn", count("varlen", flash_attention.varlen_attn))
    Run(mode, precision, SFT()).step(batch(rows))
    assert made.count("mask") == masks  # of two micro-batches
    assert ("varlen" in made) == varlen


def test_a_validations_batches_do_not_wait(mode: FakeTensorMode) -> None:
    run = Run(mode, "bf16-mixed", SFT())
    run.trainer.training = False
    prepared = run.module.on_before_batch_transfer(batch(PACKED), 0)
    with mode, torch.no_grad(), torch.autocast("cuda", torch.bfloat16), Transfers() as transfers:
        for number in range(3):
            run.module.validation_step(run.module.transfer_batch_to_device(prepared, CUDA, 0), number)
    assert not transfers.places


def test_a_tensor_on_the_wrong_device_fails(mode: FakeTensorMode) -> None:
    run = Run(mode, "bf16-mixed", SFT())
    with mode:
        run.module.model.norm.weight = torch.nn.Parameter(torch.ones(64))  # on the CPU
    with pytest.raises(RuntimeError, match=r"same device|cuda:0 and cpu|cpu and cuda:0"):
        run.step(batch(PACKED))


def test_a_wait_in_a_micro_batch_is_noticed(mode: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(mode, "bf16-mixed", SFT())
    hidden = SFTModule._hidden_states  # pyright: ignore[reportPrivateUsage]  # the mistake is planted inside a step
    monkeypatch.setattr(SFTModule, "_hidden_states", lambda self, b: (float(b["labels"].sum()), hidden(self, b))[1])
    with Transfers() as transfers:
        run.step(batch(PACKED))
    assert transfers.places
