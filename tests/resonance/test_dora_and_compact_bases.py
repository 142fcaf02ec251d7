"""DoRA, and adapters over frozen weights in bf16 and int8."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from resonance import lora
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.frozen_weights import FrozenLinear, as_held, quantize
from resonance.lora import TARGETS, AdapterError, LoraConfig
from resonance.lora_layers import LowRankLinear
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.weights import huggingface
from resonance.weights.state_dict import shapes

SIZES = GPT2Config(vocab_size=61, context_length=16, n_layer=2, n_head=2, n_embd=16, dropout=0.0)
IDS = torch.arange(24).view(2, 12) + 37
DORA = LoraConfig(rank=3, dora=True)


def base(sizes: GPT2Config = SIZES) -> GPT2:
    torch.manual_seed(0)
    return GPT2(sizes).eval()


def logits(model: GPT2) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS)


def adapted(config: LoraConfig, *, sizes: GPT2Config = SIZES, new_tokens: int = 0) -> GPT2:
    model = base(sizes)
    lora.inject(model, config, new_tokens=new_tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def rounded(base_dtype: str, sizes: GPT2Config = SIZES, new_tokens: int = 0) -> GPT2:
    """The plain model that a base of this type computes with."""
    model = base(sizes)
    for name, parameter in model.named_parameters():
        held = as_held(name, parameter.data, base_dtype)
        if new_tokens and name in ("token_embedding.weight", "head.weight"):
            held = torch.cat([held[:-new_tokens], parameter.data[-new_tokens:]])
        parameter.data = held
    return model


def test_new_magnitudes_change_no_logit() -> None:
    model = base()
    lora.inject(model, DORA)
    assert torch.equal(logits(model), logits(base()))


def test_gradients_are_those_of_the_formula_with_a_constant_length() -> None:
    torch.manual_seed(1)
    layer = LowRankLinear(torch.nn.Linear(7, 5).requires_grad_(False), DORA)
    trained = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    x = torch.randn(4, 7, requires_grad=True)
    inputs = [x, *trained.values()]
    ours = torch.autograd.grad(layer(x).pow(3).sum(), inputs)
    assert layer.lora_magnitude is not None
    weight = layer.frozen.weight + DORA.scaling * layer.lora_b @ layer.lora_a
    direction = weight / weight.norm(dim=1, keepdim=True).detach()
    y = F.linear(x, layer.lora_magnitude[:, None] * direction, layer.frozen.bias)
    theirs = torch.autograd.grad(y.pow(3).sum(), inputs)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-4)


CONFIGS = [DORA] + [LoraConfig(rank=3, base_dtype=t, dora=d) for t in ("bf16", "int8") for d in (False, True)]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize(("tied", "new_tokens"), [(True, 0), (True, 2), (False, 2)])
def test_merging_saving_and_loading_keep_the_logits(
    tmp_path: Path, config: LoraConfig, tied: bool, new_tokens: int
) -> None:
    sizes = replace(SIZES, tie_weights=tied)
    model = adapted(config, sizes=sizes, new_tokens=new_tokens)
    before = logits(model)
    lora.save(model, tmp_path, base="gpt2")
    opened = base(sizes)
    lora.load(opened, tmp_path)
    assert torch.equal(logits(opened), before)
    assert lora.config_of(opened) == replace(config, targets=tuple(TARGETS))
    assert lora.describe(opened) == lora.describe(model)
    copy = lora.plain(model)
    lora.merge(model)
    for merged in (model, copy):
        torch.testing.assert_close(logits(merged), before, rtol=0, atol=2e-5)
        assert {name: tuple(t.shape) for name, t in merged.state_dict().items()} == shapes(sizes)
        assert {tensor.dtype for tensor in merged.state_dict().values()} == {torch.float32}
    assert {type(module) for module in model.modules()} == {type(module) for module in base(sizes).modules()}


@pytest.mark.parametrize("base_dtype", ["bf16", "int8"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_compact_layer_computes_and_learns_as_one_of_its_rounded_weights(base_dtype: str, autocast: bool) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(9, 7), torch.randn(9), torch.randn(2, 3, 7)
    frozen = FrozenLinear(weight, bias, base_dtype)
    assert frozen.stored.element_size() == (2 if base_dtype == "bf16" else 1)
    values = []
    for layer in (frozen, lambda x: F.linear(x, frozen.weight, bias)):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = layer(inputs)
        y.float().sin().sum().backward()
        assert inputs.grad is not None and inputs.grad.dtype == torch.float32
        values.append((y, inputs.grad))
    tolerance = 0.06 if autocast else 1e-5
    for ours, theirs in zip(*values, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_rounding_to_int8_is_off_by_half_a_step_at_most_in_each_row() -> None:
    weight = torch.randn(5, 300) * torch.tensor([1e-4, 1.0, 50.0, 0.0, 3.0])[:, None]
    stored, scales = quantize(weight)
    assert stored.dtype == torch.int8
    assert bool(((stored * scales[:, None] - weight).abs() <= 0.5001 * scales[:, None]).all())
    assert torch.equal(stored[3], torch.zeros(300, dtype=torch.int8))


@pytest.mark.parametrize("base_dtype", ["bf16", "int8"])
def test_a_base_is_held_in_fewer_bytes_and_only_the_adapter_learns(base_dtype: str) -> None:
    model = base(replace(SIZES, n_embd=64))
    lora.inject(model, LoraConfig(rank=2, targets=TARGETS[:1], base_dtype=base_dtype), new_tokens=2)
    held, full = lora.memory_of_base(model)
    assert full == 4 * sum(p.numel() for p in base(replace(SIZES, n_embd=64)).parameters()) - 2 * 64 * 4
    assert held < full * {"bf16": 0.54, "int8": 0.34}[base_dtype]
    before = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    model.train()
    model(IDS).square().mean().backward()
    learning = {name.split(".")[-1] for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {"lora_a", "lora_b", "new"}
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)


@pytest.mark.parametrize("base_dtype", ["bf16", "int8"])
def test_the_recorded_base_is_the_one_that_was_used(tmp_path: Path, base_dtype: str) -> None:
    model = base()
    lora.inject(model, LoraConfig(base_dtype=base_dtype), new_tokens=2)
    torch.testing.assert_close(logits(model), logits(rounded(base_dtype, new_tokens=2)), rtol=0, atol=1e-5)
    described = lora.describe(model)
    used, original = rounded(base_dtype, new_tokens=2), base()
    for plain in (used, original):
        lora.inject(plain, LoraConfig(), new_tokens=2)
    assert described is not None and described["base_dtype"] == base_dtype
    crcs = [(lora.describe(plain) or {})["base_crc32"] for plain in (used, original)]
    assert described["base_crc32"] == crcs[0] != crcs[1]
    lora.save(model, tmp_path)
    other = GPT2(SIZES)
    with pytest.raises(AdapterError, match="trained over other weights"):
        lora.load(other, tmp_path)


def test_a_checkpoint_says_that_its_adapter_is_dora_over_int8(tmp_path: Path) -> None:
    template = ChatTemplate.named("chatml")
    model = adapted(replace(DORA, base_dtype="int8"), sizes=replace(SIZES, vocab_size=50259), new_tokens=2)
    Checkpoint.save(tmp_path / "run", model, template.tokenizer, Metadata(template="chatml", base="gpt2"))
    checkpoint = Checkpoint.open(tmp_path / "run")
    torch.testing.assert_close(logits(checkpoint.load_model()), logits(model), rtol=0, atol=2e-5)
    known = checkpoint.metadata.adapter
    assert known is not None and (known["dora"], known["base_dtype"]) == (True, "int8")
    assert "weight-decomposed low-rank (DoRA), rank 3" in (tmp_path / "run" / "README.md").read_text()
    assert "over a base in int8" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize("settings", [{"dora": "yes"}, {"base_dtype": "int4"}])
def test_settings_that_cannot_be_are_named(settings: dict[str, Any]) -> None:
    name, value = next(iter(settings.items()))
    with pytest.raises(AdapterError, match=f"{name} must be .*, not '{value}'"):
        LoraConfig(**settings)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_opens_the_adapter_and_computes_the_same(tmp_path: Path, dora: bool, rslora: bool) -> None:
    peft = pytest.importorskip("peft")
    from transformers import GPT2LMHeadModel

    (tmp_path / "base").mkdir()
    huggingface.write(tmp_path / "base", SIZES, base().state_dict())
    model = adapted(LoraConfig(rank=3, alpha=5.0, dora=dora, rslora=rslora))
    lora.save(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    theirs = peft.PeftModel.from_pretrained(
        GPT2LMHeadModel.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, logits(model), rtol=0, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    opened = base()
    lora.load(opened, tmp_path / "theirs")
    assert torch.equal(logits(opened), logits(model))
