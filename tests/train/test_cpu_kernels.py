"""Training's C++ kernels compute what torch computes."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resonance.engine.kernels.cross_entropy import kernel
from resonance.model import GPT2, Documents, TransformerBlock, attend_documents
from resonance.model_config import GPT2Config
from train.cpu_kernels import GELU, attend_documents_with_kernel, describe_attention, use_kernels
from train.losses import supervised_loss

pytestmark = pytest.mark.skipif(kernel() is None, reason="no C++ compiler: torch computes GELU and attention")
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def results(qkv: Tensor, lengths: Sequence[int], gradient: Tensor, *, with_kernel: bool) -> tuple[Tensor, Tensor]:
    leaf = qkv.detach().clone().requires_grad_()
    y = (attend_documents_with_kernel if with_kernel else attend_documents)(leaf, Documents.of(lengths), 0.0)
    y.backward(gradient.to(y.dtype))
    assert leaf.grad is not None
    return y.detach(), leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("lengths", [(1,), (1, 2, 3, 5), (60, 61, 59, 120), (300, 7)])
def test_attention_and_its_gradient_are_those_of_each_document_alone(
    dtype: torch.dtype, head_dim: int, lengths: Sequence[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, 2, head_dim, generator=generator).to(dtype)
    gradient = torch.randn(sum(lengths), 2, head_dim, generator=generator).to(dtype)
    y, slope = results(qkv, lengths, gradient, with_kernel=True)
    exact_y, exact_slope = results(qkv.double(), lengths, gradient.double(), with_kernel=False)
    assert y.dtype == slope.dtype == dtype
    torch.testing.assert_close(y.double(), exact_y, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    torch.testing.assert_close(slope.double(), exact_slope, rtol=3 * ROUNDING[dtype], atol=3 * ROUNDING[dtype])


def test_attention_survives_scores_that_overflow_an_exponential() -> None:
    qkv = torch.full((70, 3, 1, 16), 40.0)
    y, slope = results(qkv, (70,), torch.ones(70, 1, 16), with_kernel=True)
    torch.testing.assert_close(y, torch.full_like(y, 40.0))
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_and_its_gradient_are_torchs_own(dtype: torch.dtype) -> None:
    x = torch.linspace(-30, 30, 40_000).to(dtype)
    mine, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = GELU(approximate="tanh")(mine), F.gelu(exact, approximate="tanh")
    gradient = torch.linspace(-1, 1, 40_000).to(dtype)
    y.backward(gradient)
    expected.backward(gradient.double())
    assert mine.grad is not None and exact.grad is not None
    torch.testing.assert_close(y.double(), expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    torch.testing.assert_close(mine.grad.double(), exact.grad, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.parametrize("n_embd", [32, 24])  # the kernels do not take heads that are 12 wide
def test_a_model_with_kernels_has_the_same_loss_and_gradients(n_embd: int) -> None:
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=n_embd, context_length=32, vocab_size=96, tie_weights=True, dropout=0.0
    )
    torch.manual_seed(0)
    model = GPT2(config)
    ids = torch.randint(0, 96, (2, 32))
    documents = torch.tensor([[0] * 20 + [1] * 12, [2] * 31 + [-1]])

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model(ids, document_ids=documents).square().mean().backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    names, before = list(model.state_dict()), gradients()
    use_kernels(model)
    assert list(model.state_dict()) == names
    for mine, expected in zip(gradients(), before, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_layer_normalisation_and_its_gradients_are_torchs_rounded_to_bfloat16() -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=48, context_length=8, vocab_size=8, tie_weights=True, dropout=0.0)
    torch.manual_seed(0)
    plain, model = nn.LayerNorm(48), GPT2(config)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.copy_(torch.randn_like(parameter))
    use_kernels(model)
    block = model.blocks[0]
    assert isinstance(block, TransformerBlock)
    block.norm1.load_state_dict(plain.state_dict())
    x, slope = 3 * torch.randn(2, 500, 48) + 1, torch.randn(2, 500, 48).bfloat16()
    results: list[list[Tensor | None]] = []
    for layer in (block.norm1, plain):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(leaf)
        y.backward(slope.to(y.dtype))
        results.append([y.detach().float(), leaf.grad, *(parameter.grad for parameter in layer.parameters())])
    assert y.dtype == torch.float32  # torch's
    for mine, expected, rounding in zip(*results, (4e-3, 1e-5, 1e-5, 1e-5), strict=True):
        assert mine is not None and expected is not None
        torch.testing.assert_close(mine, expected, rtol=rounding, atol=20 * rounding if rounding < 1e-4 else rounding)


def test_an_embeddings_gradient_joins_its_heads() -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=32, context_length=8, vocab_size=96, tie_weights=True, dropout=0.0)
    torch.manual_seed(0)
    model, ids = GPT2(config), torch.tensor([[1, 2, 2, 5, 95, 2, 0, 1]])

    def gradient() -> Tensor:
        model.zero_grad()
        hidden = model(ids, return_hidden_states=True)
        supervised_loss(hidden, model.head_weight, ids)[0].backward()
        assert model.token_embedding.weight.grad is not None
        return model.token_embedding.weight.grad

    expected = gradient()
    use_kernels(model)
    assert not gradient().is_sparse
    torch.testing.assert_close(gradient(), expected, rtol=1e-4, atol=1e-5)


def test_dropout_of_attention_is_torchs() -> None:
    qkv = torch.randn(40, 3, 2, 16, generator=torch.Generator().manual_seed(0))
    drawn: list[Tensor] = []
    for attend in (attend_documents, attend_documents_with_kernel):
        torch.manual_seed(1)
        drawn.append(attend(qkv, Documents.of((25, 15)), 0.5))
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("n_embd", "dropout", "precision", "said"),
    [
        (32, 0.0, "bf16-mixed", "attention: document by document, by the C++ kernel"),
        (32, 0.1, "bf16-mixed", "by torch's operators (the kernel has no dropout and model.dropout is 0.1)"),
        (24, 0.0, "32-true", "by torch's operators (the kernel's heads are multiples of 16 wide, not 12)"),
        (32, 0.0, "64-true", "by torch's operators (the kernel does not compute in 64-true)"),
    ],
)
def test_the_log_names_how_attention_is_computed(n_embd: int, dropout: float, precision: str, said: str) -> None:
    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=n_embd, context_length=8, vocab_size=8, tie_weights=True, dropout=dropout
    )
    assert describe_attention(GPT2(config), torch.device("cpu"), precision).endswith(said)
