"""The formulas of `plan=true` against the tensors of whole training steps, at GPT-2's sizes, on a fake GPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from resonance.model_config import GPT2Config
from tests.fake_cuda.check_training import Run
from tests.fake_cuda.memory import Memory
from train.cuda_memory import CUDA_CONTEXT, backward_bytes, cuda_activations, cuda_loss_bytes
from train.losses import CHUNK
from train.memory_estimate import Estimate, gradient_bytes, optimizer_bytes
from train.objectives import SFT

ROW = 1024  # tokens, half of them supervised
GPT2_124M = GPT2Config(dropout=0.0)
GPT2_774M = GPT2Config(n_layer=36, n_head=20, n_embd=1280, dropout=0.0)
LORA = {"base_dtype": "bf16", "dropout": 0.05}
EIGHT_GB = 8e9


@pytest.fixture(autouse=True)
def fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel that a GPU takes for float32; torch's choice asks the GPU itself.
    def attend(
        query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None, is_causal: bool, **_: Any
    ) -> Any:
        bias = None
        if attn_mask is not None:
            bias = torch.zeros_like(attn_mask, dtype=query.dtype).expand(*query.shape[:2], -1, -1)
        attention: Any = torch.ops.aten._scaled_dot_product_efficient_attention
        return attention(query, key, value, bias, compute_log_sumexp=True, is_causal=is_causal)[0]

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)


def packed(rows: int) -> dict[str, Tensor]:
    shape = (rows, ROW)
    labels = torch.full(shape, -100)
    labels[:, ::2] = 7
    documents = torch.arange(4 * rows).repeat_interleave(ROW // 4).view(shape)
    positions = torch.arange(ROW // 4).repeat(4).expand(shape).contiguous()
    ids = torch.randint(1, 50_000, shape)
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "document_ids": documents}


def needed(config: GPT2Config, precision: str, rows: int, **options: Any) -> tuple[float, float]:
    """The peak of the tensors of a step that follows another, and the estimate of it."""
    half, checkpointing = precision != "32-true", bool(options.get("checkpointing"))
    with Memory() as memory:
        run = Run(FakeTensorMode(allow_non_fake_inputs=True), precision, SFT(), config=config, **options)
        run.trainer.accumulate_grad_batches = 1
        run.step(packed(rows))
        memory.peak = 0
        run.step(packed(rows))
    model, moments = run.module.model, optimizer_bytes(run.optimizer)
    assert moments is not None
    estimate = Estimate(
        process=0,
        weights=sum(tensor.nbytes for tensor in model.parameters()),
        gradients=gradient_bytes(model),
        optimizer=moments,
        activations=cuda_activations(model, half=half, checkpointing=checkpointing, masked=0 if half else ROW),
        loss=cuda_loss_bytes(model, half=half, supervised=0.5, head_size=config.vocab_size, chunk=CHUNK),
        accumulates=False,
        backward=backward_bytes(model),
    )
    return memory.peak, estimate.peak(rows * ROW)


CASES: dict[str, tuple[GPT2Config, str, int, dict[str, Any]]] = {
    "124M": (GPT2_124M, "bf16-mixed", 8, {}),
    "124M with dropout": (replace(GPT2_124M, dropout=0.1), "bf16-mixed", 8, {}),
    "124M checkpointed": (GPT2_124M, "bf16-mixed", 8, {"checkpointing": True}),
    "124M in fp32": (GPT2_124M, "32-true", 4, {}),
    "124M by LoRA over fp32": (GPT2_124M, "bf16-mixed", 4, {"adapter": {"dropout": 0.05}}),
    "124M by LoRA over bf16": (GPT2_124M, "bf16-mixed", 4, {"adapter": LORA}),
    "774M": (GPT2_774M, "bf16-mixed", 1, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_formulas_are_those_of_a_steps_tensors(case: str) -> None:
    config, precision, rows, options = CASES[case]
    counted, estimated = needed(config, precision, rows, **options)
    assert counted * 0.99 < estimated < counted * 1.12


def test_gpt2_large_by_lora_with_checkpointing_needs_less_than_8_gb() -> None:
    counted, estimated = needed(GPT2_774M, "bf16-mixed", 4, adapter=LORA, checkpointing=True)
    assert counted * 0.99 < estimated < counted * 1.12
    assert max(counted, estimated) + CUDA_CONTEXT < EIGHT_GB


def test_gpt2_large_in_full_and_fp32_needs_more_than_8_gb_and_the_plan_says_so() -> None:
    counted, estimated = needed(GPT2_774M, "32-true", 1)
    assert counted * 0.99 < estimated < counted * 1.12
    assert min(counted, estimated) > EIGHT_GB
