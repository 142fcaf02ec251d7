"""Weight decay, layer-wise rates, learning-rate schedules, and the warning against Muon."""

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, Optimizer

from resonance import lora
from resonance.model import GPT2, GPT2Config
from resonance.weights import huggingface
from train.optimizers import adamw, layer_scales, muon, muon_warning
from train.schedules import constant, cosine, cosine_restarts, linear, wsd

DEEP = GPT2Config(vocab_size=11, context_length=4, n_layer=3, n_head=1, n_embd=4, dropout=0.0)


def test_only_matrices_decay() -> None:
    model = GPT2(GPT2Config(vocab_size=11, context_length=4, n_layer=1, n_head=1, n_embd=4))
    optimizer = adamw(model, lr=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.1 if parameter.dim() == 2 else 0.0), name


def rates(schedule: object, steps: int, **settings: object) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, steps, **settings)
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_the_rate_rises_to_its_full_height_and_falls_to_its_end(schedule: object) -> None:
    seen = rates(schedule, 100, warmup_steps=10, final=0.1)
    assert seen[0] == pytest.approx(0.1)
    assert seen[9] == pytest.approx(1.0)
    assert seen[:10] == sorted(seen[:10])
    assert seen[10:] == sorted(seen[10:], reverse=True)
    assert seen[-1] == pytest.approx(0.1, abs=0.02)


def test_a_constant_rate_stays() -> None:
    assert rates(constant, 20, warmup_steps=4)[4:] == [1.0] * 16


def test_a_stable_rate_falls_in_the_last_share_of_the_steps_only() -> None:
    seen = rates(wsd, 100, warmup_steps=10, decay=0.2, final=0.1)
    assert seen[10:81] == [1.0] * 71
    assert seen[81] == pytest.approx(1 - 0.9 * math.sqrt(1 / 20))
    assert seen[99] == pytest.approx(1 - 0.9 * math.sqrt(19 / 20))
    assert rates(wsd, 10, warmup_steps=8, decay=1.0, final=0.0)[:9] == pytest.approx([*(i / 8 for i in range(1, 9)), 1])


def test_a_restarted_cosine_returns_to_the_full_rate_and_ends_low_with_the_run() -> None:
    even = rates(cosine_restarts, 310, warmup_steps=10, cycles=3, growth=1.0, final=0.1)
    assert [even[step] for step in (10, 110, 210)] == pytest.approx([1.0] * 3)
    assert [even[step] for step in (60, 160, 260)] == pytest.approx([0.55] * 3)
    assert [even[step] for step in (109, 209, 309)] == pytest.approx([0.1] * 3, abs=1e-3)
    growing = rates(cosine_restarts, 700, warmup_steps=0, cycles=3, growth=2.0, final=0.0)
    assert [step for step, rate in enumerate(growing) if rate == 1] == [0, 100, 300]
    assert rates(cosine_restarts, 50, warmup_steps=5, cycles=1, growth=1.0, final=0.1) == pytest.approx(
        rates(cosine, 50, warmup_steps=5, final=0.1)
    )


def make(kind: str, model: GPT2, layer_decay: float) -> Optimizer:
    if kind == "adamw":
        return adamw(model, lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, layer_decay=layer_decay)
    betas = (0.9, 0.99)
    return muon(
        model,
        lr=1e-2,
        momentum=0.9,
        weight_decay=0.1,
        adamw_lr=1e-3,
        adamw_betas=betas,
        adamw_eps=1e-8,
        layer_decay=layer_decay,
    )


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_lower_block_has_the_rate_of_the_one_above_it_times_the_decay(kind: str) -> None:
    model = GPT2(DEEP)
    optimizer = make(kind, model, 0.5)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(group_of) == len(list(model.parameters()))
    expected = {"blocks.2": 1.0, "blocks.1": 0.5, "blocks.0": 0.25, "token_embedding": 0.125, "norm": 1.0}
    for prefix, scale in expected.items():
        for name, parameter in model.named_parameters():
            if name.startswith(prefix):
                group = group_of[id(parameter)]
                rate = 1e-3 if kind == "muon" and not group["muon"] else 1e-2
                assert group["lr"] == pytest.approx(rate * scale), name
                assert group["weight_decay"] == (0.1 if parameter.dim() == 2 else 0.0)
    assert optimizer.param_groups[0]["lr"] == 1e-2, "the logged rate is the configured one"
    assert len(make(kind, model, 1.0).param_groups) == (2 if kind == "adamw" else 3)


def test_new_tokens_of_an_adapter_learn_at_the_full_rate() -> None:
    model = GPT2(DEEP)
    lora.inject(model, lora.LoraConfig(rank=2), new_tokens=2)
    scales = layer_scales(model, 0.5)
    assert scales["token_embedding.new"] == 1.0
    assert scales["blocks.0.attention.qkv.lora_a"] == 0.25
    assert "token_embedding.known" not in scales


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_saved_state_with_layer_wise_rates_goes_on_to_the_same_weights(kind: str) -> None:
    def learn(model: GPT2, optimizer: Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
        for step in range(3):
            model((torch.arange(8).view(2, 4) + step) % 11).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    whole = GPT2(DEEP)
    optimizer = make(kind, whole, 0.8)
    schedule = wsd(optimizer, 6, warmup_steps=2, decay=0.5, final=0.0)
    learn(whole, optimizer, schedule)
    weights, *states = deepcopy([whole.state_dict(), optimizer.state_dict(), schedule.state_dict()])
    learn(whole, optimizer, schedule)
    resumed = GPT2(DEEP)
    resumed.load_state_dict(weights)
    other = make(kind, resumed, 0.8)
    their_schedule = wsd(other, 6, warmup_steps=2, decay=0.5, final=0.0)
    other.load_state_dict(states[0])
    their_schedule.load_state_dict(states[1])
    learn(resumed, other, their_schedule)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_muon_is_warned_against_where_adamw_probably_trained_the_weights(tmp_path: Path) -> None:
    model = GPT2(DEEP)
    huggingface.write(tmp_path, model.config, model.state_dict())
    base, target = str(tmp_path), "train.optimizers.muon"
    warning = muon_warning(target, base, adapter=False)
    assert warning is not None and "disrupts what AdamW taught" in warning and base in warning
    assert muon_warning("train.optimizers.adamw", base, adapter=False) is None
    assert muon_warning(target, None, adapter=False) is None
    assert muon_warning(target, base, adapter=True) is None
    (tmp_path / "train.yaml").write_text(f"optimizer:\n  _target_: {target}\n")
    assert muon_warning(target, base, adapter=False) is None, "Muon trained these weights"
