"""Random weights with initial induction heads."""

import pytest
import torch

from resonance.hydra_config import ConfigError
from resonance.model import GPT2, GPT2Config
from train.model_init import add_induction_heads

SIZES = GPT2Config(
    vocab_size=400, context_length=128, n_layer=4, n_head=4, n_embd=256, dropout=0.0, initializer_range=0.05
)


def goes_on(model: GPT2) -> float:
    """How often the likeliest token, but for the last one again, is the one that followed it before.

    The texts are random words that come twice.
    """
    generator = torch.Generator().manual_seed(3)
    once = torch.stack([torch.randperm(400, generator=generator)[:40] for _ in range(8)])  # (8, 40)
    twice = torch.cat([once, once], 1)
    with torch.no_grad():
        logits = model(twice)[:, 45:-1]  # an untrained model with a tied head would say the last token again
        likeliest = logits.scatter(2, twice[:, 45:-1, None], -torch.inf).argmax(-1)
    return float((likeliest == twice[:, 46:]).float().mean())


def test_a_model_that_has_learned_nothing_goes_on_as_its_context_did() -> None:
    torch.manual_seed(0)
    model = GPT2(SIZES)
    assert goes_on(model) < 0.05
    add_induction_heads(model, 3)
    assert goes_on(model) > 0.5


def test_all_weights_stay_finite_and_train() -> None:
    model = GPT2(SIZES)
    add_induction_heads(model, 4)
    model(torch.arange(20)[None]).square().mean().backward()
    for parameter in model.parameters():
        assert parameter.isfinite().all()
        assert parameter.grad is not None


def test_a_small_model_takes_them_too() -> None:
    add_induction_heads(GPT2(GPT2Config(vocab_size=11, context_length=8, n_layer=2, n_head=2, n_embd=4)), 2)


def test_one_layer_is_too_few() -> None:
    with pytest.raises(ConfigError, match=r"induction_heads=2 needs two layers.*has 1 layers of 2 heads"):
        add_induction_heads(GPT2(GPT2Config(vocab_size=11, context_length=8, n_layer=1, n_head=2, n_embd=4)), 2)
