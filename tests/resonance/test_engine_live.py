"""Engines made from a model that is being trained: it is left as it was."""

import copy
import random
import time

import pytest
import torch

from resonance.engine import Engine, SamplingParams
from resonance.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=97, context_length=64, n_layer=2, n_head=2, n_embd=32, dropout=0.5)


@pytest.fixture
def model() -> GPT2:
    torch.manual_seed(0)
    return GPT2(CONFIG).train()


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_sampling_leaves_a_model_its_mode_gradients_weights_and_random_numbers(
    model: GPT2, kernels: bool, training: bool
) -> None:
    model.train(training)
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    before = copy.deepcopy(model)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    torch.manual_seed(7)
    random.seed(7)
    expected = (torch.rand(3).tolist(), random.random())
    torch.manual_seed(7)
    random.seed(7)
    engine = Engine(model, kernels=kernels)
    engine.generate([[1, 2], [3]], SamplingParams(max_new_tokens=5))
    engine.embed([[1, 2, 3]])
    assert (torch.rand(3).tolist(), random.random()) == expected
    assert all(module.training is training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, before.get_parameter(name))
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])


@pytest.mark.parametrize("kernels", [True, False])
def test_dropout_is_off_in_the_engine_and_on_in_the_model(model: GPT2, kernels: bool) -> None:
    engine = Engine(model, kernels=kernels)
    plain = copy.deepcopy(model).eval()
    with torch.no_grad():
        expected = plain(torch.tensor([[5, 6, 7]])).log_softmax(-1)[0, 1, 7]
    assert engine.score([([5, 6], [7])])[0] == pytest.approx([float(expected)], abs=1e-5)
    model(torch.tensor([[1, 2]])).sum().backward()  # the graph of training is untouched
    assert model.training


def test_each_engine_has_the_weights_of_its_time(model: GPT2) -> None:
    before = Engine(model).score([([5, 6], [7, 8])])[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    after = Engine(model).score([([5, 6], [7, 8])])[0]
    assert after != pytest.approx(before, abs=1e-3)


def test_making_an_engine_again_takes_a_moment(model: GPT2) -> None:
    Engine(model)  # builds the kernels where there are none yet
    started = time.perf_counter()
    for _ in range(10):
        Engine(model)
    assert time.perf_counter() - started < 2
