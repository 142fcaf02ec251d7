"""Adapters: nothing at first, a part of the weights in the end, and files that peft opens."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from resonance import lora
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.lora import TARGETS, AdapterError, LoraConfig
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.weights.state_dict import shapes

SIZES = GPT2Config(vocab_size=61, context_length=16, n_layer=2, n_head=2, n_embd=16, dropout=0.0)
IDS = torch.arange(24).view(2, 12)


def base(sizes: GPT2Config = SIZES, seed: int = 0) -> GPT2:
    torch.manual_seed(seed)
    return GPT2(sizes).eval()


def logits(model: GPT2, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(ids)


def adapted(config: LoraConfig | None = None, *, sizes: GPT2Config = SIZES, new_tokens: int = 0) -> GPT2:
    """A model whose adapter has learned something, if only noise."""
    model = base(sizes)
    lora.inject(model, config or LoraConfig(rank=3), new_tokens=new_tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("new_tokens", [0, 2])
def test_a_new_adapter_changes_no_logit(new_tokens: int) -> None:
    model = base()
    before = logits(model)
    lora.inject(model, LoraConfig(), new_tokens=new_tokens)
    assert torch.equal(logits(model, IDS), before)
    assert torch.equal(logits(model, IDS + 37), logits(base(), IDS + 37))


@pytest.mark.parametrize("target", TARGETS)
def test_only_the_chosen_matrices_are_adapted_and_only_adapters_have_gradients(target: str) -> None:
    model = base()
    lora.inject(model, LoraConfig(rank=2, targets=[target]))
    model(IDS).square().mean().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {f"blocks.{layer}.{target}.lora_{matrix}" for layer in (0, 1) for matrix in "ab"}


def test_steps_of_an_optimiser_leave_every_bit_of_the_base_as_it_was() -> None:
    model, before = base(), base().state_dict()
    lora.inject(model, LoraConfig(dropout=0.1), new_tokens=2)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    model.train()
    for _ in range(3):
        model(IDS + 37).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    frozen = {name.replace(".frozen", "").replace(".known", ".weight"): p for name, p in model.named_parameters()}
    for name, tensor in before.items():
        assert torch.equal(frozen[name], tensor[: len(frozen[name])]), name
    assert not torch.equal(logits(model.eval()), logits(base()))


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(("tied", "new_tokens"), [(True, 0), (True, 2), (False, 2)])
def test_merging_gives_a_plain_model_with_the_same_logits(tied: bool, new_tokens: int, rslora: bool) -> None:
    sizes = replace(SIZES, tie_weights=tied)
    model = adapted(LoraConfig(rank=3, rslora=rslora), sizes=sizes, new_tokens=new_tokens)
    before, ids = logits(model, IDS + 37), IDS + 37
    assert not torch.allclose(before, logits(base(sizes), ids), atol=1e-2)
    copy = lora.plain(model)
    lora.merge(model)
    for merged in (model, copy):
        torch.testing.assert_close(logits(merged, ids), before, rtol=0, atol=1e-5)
        assert {name: tuple(t.shape) for name, t in merged.state_dict().items()} == shapes(sizes)
        assert list(merged.state_dict()) == list(base(sizes).state_dict())
    assert {type(module) for module in model.modules()} == {type(module) for module in base(sizes).modules()}
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.resize_vocab(70)
    lora.inject(model, LoraConfig())


def test_a_merged_copy_does_not_disturb_what_trains() -> None:
    model = adapted()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    copy = lora.plain(model)
    lora.merge(copy)
    with torch.no_grad():
        copy.blocks[0].attention.qkv.weight.zero_()
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert lora.plain(copy) is copy


def test_dropout_falls_on_the_update_alone_and_in_training_alone() -> None:
    model = adapted(LoraConfig(rank=3, dropout=0.5))
    assert torch.equal(logits(model), logits(model))
    assert not torch.equal(logits(model.train()), logits(model))
    untouched = base().train()
    lora.inject(untouched, LoraConfig(dropout=0.5))
    assert torch.equal(logits(untouched), logits(base()))


@pytest.mark.parametrize(("tied", "new_tokens"), [(True, 0), (True, 2), (False, 2)])
def test_a_saved_adapter_loads_over_its_base(tmp_path: Path, tied: bool, new_tokens: int) -> None:
    sizes = replace(SIZES, tie_weights=tied)
    config = LoraConfig(rank=3, alpha=5.0, dropout=0.25, targets=TARGETS[1:3], rslora=True)
    model = adapted(config, sizes=sizes, new_tokens=new_tokens)
    lora.save(model, tmp_path / "adapter", base="gpt2")
    bare = base(sizes)
    bare.resize_vocab(61 - new_tokens)
    for opened in (base(sizes), bare):  # the base with the new tokens, and without
        lora.load(opened, tmp_path / "adapter")
        assert lora.config_of(opened) == config
        assert torch.equal(logits(opened, IDS + 37), logits(model, IDS + 37))
        assert lora.describe(opened) == lora.describe(model)
    assert not list((tmp_path / "adapter").glob("*.tmp"))


def test_the_files_are_named_as_peft_names_them(tmp_path: Path) -> None:
    lora.save(adapted(new_tokens=2), tmp_path, base="gpt2")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA"
    assert settings["base_model_name_or_path"] == "gpt2"
    assert settings["fan_in_fan_out"] is True
    assert settings["target_modules"] == ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert settings["trainable_token_indices"] == [59, 60]
    tensors = {name: tuple(tensor.shape) for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items()}
    assert len(tensors) == 2 * 4 * 2 + 1
    assert tensors["base_model.model.transformer.h.1.attn.c_attn.lora_A.weight"] == (3, 16)
    assert tensors["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"] == (48, 3)
    assert tensors["base_model.model.transformer.h.0.mlp.c_proj.lora_A.weight"] == (3, 64)
    assert tensors["base_model.model.transformer.wte.token_adapter.trainable_tokens_delta"] == (2, 16)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rank": 0}, "rank must be at least 1, not 0"),
        ({"alpha": 0.0}, "alpha must be more than 0, not 0.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1.0"),
        ({"targets": ["attention.query"]}, "some of attention.qkv, .*, not attention.query"),
        ({"targets": []}, "not nothing"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(AdapterError, match=sentence):
        LoraConfig(**settings)


def test_an_adapter_needs_a_plain_model_wide_enough_for_it(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="at most the model's width, 16, not 17"):
        lora.inject(base(), LoraConfig(rank=17))
    with pytest.raises(AdapterError, match="merge it first"):
        lora.inject(adapted(), LoraConfig())
    with pytest.raises(AdapterError, match="no adapter"):
        lora.save(base(), tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sizes", "seed", "sentence"),
    [
        (SIZES, 1, "trained over other weights than the model's; load it over gpt2"),
        (replace(SIZES, n_embd=32), 0, r"lora_a .* has the shape \(3, 16\), not \(3, 32\)"),
        (replace(SIZES, n_layer=3), 0, "it lacks blocks.2.attention.proj.lora_a"),
        (replace(SIZES, n_layer=1), 0, "it has blocks.1.attention.proj.lora_a"),
        (replace(SIZES, vocab_size=50), 0, "adds tokens from 59 on, and the model has 50"),
    ],
)
def test_another_base_is_refused_and_left_as_it_was(
    tmp_path: Path, sizes: GPT2Config, seed: int, sentence: str
) -> None:
    lora.save(adapted(new_tokens=2), tmp_path, base="gpt2")
    model = base(sizes, seed)
    with pytest.raises(ResonanceError, match=sentence):
        lora.load(model, tmp_path)
    assert lora.config_of(model) is None
    assert model.config == sizes


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResonanceError, match=r"adapter_config.json is missing"):
        lora.load(base(), tmp_path)
    lora.save(adapted(), tmp_path)
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    good = json.loads(config.read_text())
    for key, value in (("use_bdlora", True), ("peft_type", "IA3"), ("rank_pattern", {"c_attn": 4})):
        config.write_text(json.dumps({**good, key: value}))
        with pytest.raises(ResonanceError, match=f"has {key}=.*not supported"):
            lora.load(base(), tmp_path)
    config.write_text(json.dumps({**good, "r": 4}))
    with pytest.raises(ResonanceError, match="has the shape"):
        lora.load(base(), tmp_path)
    config.write_text(json.dumps(good))
    save_file(load_file(weights) | {"base_model.model.transformer.ln_f.lora_A.weight": torch.zeros(1)}, weights)
    with pytest.raises(ResonanceError, match="no adapter over a GPT-2 has"):
        lora.load(base(), tmp_path)
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ResonanceError, match="damaged or cut short"):
        lora.load(base(), tmp_path)
    weights.unlink()
    with pytest.raises(ResonanceError, match=r"adapter_model.safetensors is missing"):
        lora.load(base(), tmp_path)


def test_a_checkpoint_holds_the_merged_weights_and_the_adapter_beside_them(tmp_path: Path) -> None:
    template = ChatTemplate.named("chatml")
    sizes = replace(SIZES, vocab_size=50259)
    model = adapted(sizes=sizes, new_tokens=2)
    Checkpoint.save(tmp_path / "run", model, template.tokenizer, Metadata(template="chatml", base="gpt2"))
    opened = Checkpoint.open(tmp_path / "run")
    torch.testing.assert_close(logits(opened.load_model()), logits(model), rtol=0, atol=1e-5)
    known = opened.metadata.adapter
    assert known is not None
    assert (known["type"], known["rank"], known["targets"], known["base"]) == ("lora", 3, list(TARGETS), "gpt2")
    assert "| Adapter | low-rank (LoRA), rank 3, alpha 16.0" in (tmp_path / "run" / "README.md").read_text()
    again = base(sizes)
    lora.load(again, tmp_path / "run" / "adapter")
    assert torch.equal(logits(again), logits(model))
    assert lora.config_of(model) is not None, "saving merges a copy"
