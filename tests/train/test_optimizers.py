"""Weight decay and learning-rate schedules."""

import pytest
import torch
from torch.optim import SGD

from resonance.model import GPT2, GPT2Config
from train.optimizers import adamw
from train.schedules import constant, cosine, linear


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
