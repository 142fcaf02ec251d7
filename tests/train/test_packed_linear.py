"""Weights that are packed once an optimiser step give autocast's results, and gradients at least as exact."""

import pytest
import torch
from torch import Tensor, nn

from train.packed_linear import pack_linears

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN does not multiply in bfloat16 on this CPU"
)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 48), nn.Tanh(), nn.Linear(48, 16, bias=False))


def train(model: nn.Sequential, steps: int) -> list[Tensor]:
    """Train with two micro-batches a step; return the weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(torch.randn(3, 20, 32, generator=generator)).float().square().sum()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_outputs_and_inputs_gradients_are_autocasts_bit_for_bit() -> None:
    packed, plain = layers(), layers()
    names = list(packed.state_dict())
    pack_linears(packed)
    assert list(packed.state_dict()) == names
    results: list[tuple[Tensor, Tensor | None]] = []
    for model in (packed, plain):
        x = torch.randn(3, 20, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
        y.float().square().sum().backward()
        results.append((y.detach(), x.grad))
    for mine, expected in zip(*results, strict=True):
        assert mine is not None and expected is not None and torch.equal(mine, expected)


@pytest.mark.parametrize("rows", [1, 7, 256, 2500])
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 48), (80, 208), (24, 20)])
def test_weights_gradients_are_at_least_as_exact_as_autocasts(rows: int, inputs: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=generator).bfloat16().float()
    slope = torch.randn(rows, outputs, generator=generator).bfloat16()  # the outputs' gradient
    torch.manual_seed(0)
    packed, plain = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
    pack_linears(packed)
    for layer in (packed, plain):
        with torch.autocast("cpu", torch.bfloat16):
            layer(x).backward(slope)
    exact = (slope.double().T @ x.double(), slope.double().sum(0))
    for mine, autocasts, expected in zip(packed.parameters(), plain.parameters(), exact, strict=True):
        assert mine.grad is not None and autocasts.grad is not None
        error, theirs = ((p.grad.double() - expected).abs().max() for p in (mine, autocasts) if p.grad is not None)
        assert error <= theirs + 1e-3 and mine.grad.dtype == torch.float32


def test_training_follows_autocast() -> None:
    packed = layers()
    pack_linears(packed)
    for mine, expected in zip(train(packed, 4), train(layers(), 4), strict=True):
        assert (mine - expected).abs().mean() < 2e-4  # AdamW's first steps hang on the signs of tiny gradients


def test_weights_are_packed_once_for_all_micro_batches_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    pack = torch.ops.mkldnn._reorder_linear_weight

    def counted(weight: Tensor, rows: int) -> Tensor:
        calls.append(rows)
        return pack(weight, rows)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", counted)
    packed = layers()
    pack_linears(packed)
    train(packed, 3)
    assert len(calls) == 3 * 2  # two layers


def test_changed_weights_are_packed_again() -> None:
    packed, plain = layers(), layers()
    pack_linears(packed)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = packed(x)
        for model in (packed, plain):
            model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
        assert torch.equal(packed(x), plain(x)) and not torch.equal(packed(x), before)


def test_without_autocast_a_layer_is_torchs() -> None:
    packed, plain = layers(), layers()
    pack_linears(packed)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(packed(x), plain(x))
