"""What saves memory: activation checkpointing, 8-bit moments, moments on the CPU. None of it changes what a run is."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from resonance import lora
from resonance.errors import ResonanceError
from resonance.model import GPT2, GPT2Config
from tests.train.tiny_runs import CONSTANT_RATE, TINY_RUN, WIDER
from train.activation_checkpointing import checkpoint_activations
from train.offload import OffloadedAdamW
from train.optimizers import adamw, adamw_8bit
from train.run import main

TINY = [
    *TINY_RUN,
    *WIDER,
    *CONSTANT_RATE,
    "model.n_layer=2",
    "model.dropout=0.2",
    "data_cache=false",
    "trainer.max_steps=4",
    "trainer.val_every_n_steps=2",
    "optimizer.lr=1e-2",
    "callbacks.samples.every_n_steps=0",
    "logger=none",
]


def curve(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            tuple(row[name] for name in ("step", "train/loss", "val/loss", "grad_norm")) for row in csv.DictReader(file)
        ]


def backward(model: GPT2, input_ids: Tensor) -> tuple[int, dict[str, Tensor]]:
    """The bytes that the forward pass saves for the backward pass, and the gradients of the loss."""
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad()
    torch.manual_seed(3)  # of dropout
    with saved_tensors_hooks(count, lambda tensor: tensor):
        loss = model(input_ids, document_ids=torch.zeros_like(input_ids)).square().mean()
    loss.backward()
    return sum(saved.values()), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("adapter", [None, lora.LoraConfig(rank=2, dropout=0.3)])
def test_checkpointed_blocks_keep_less_and_give_the_same_gradients_with_dropout(
    adapter: lora.LoraConfig | None,
) -> None:
    torch.manual_seed(1)
    model = GPT2(GPT2Config(vocab_size=50, context_length=32, n_layer=4, n_head=2, n_embd=16, dropout=0.3)).train()
    if adapter is not None:
        lora.inject(model, adapter)
    input_ids = torch.randint(50, (8, 32))
    names = list(model.state_dict())
    plain_bytes, plain = backward(model, input_ids)
    checkpoint_activations(model)
    bytes_, gradients = backward(model, input_ids)
    assert list(model.state_dict()) == names
    assert bytes_ < 0.4 * plain_bytes
    assert gradients.keys() == plain.keys()
    assert all(torch.equal(gradients[name], plain[name]) for name in plain)
    with torch.no_grad():
        torch.manual_seed(3)
        assert model(input_ids).isfinite().all()


def test_a_run_has_the_same_curve_with_checkpointing_and_can_be_resumed_without(tmp_path: Path) -> None:
    main([f"checkpoints_dir={tmp_path}", "run=plain", *TINY])
    main([f"checkpoints_dir={tmp_path}", "run=less", *TINY, "activation_checkpointing=true", "trainer.max_steps=2"])
    main([f"checkpoints_dir={tmp_path}", "resume=less", "trainer.max_steps=4", "activation_checkpointing=false"])
    assert curve(tmp_path / "less") == curve(tmp_path / "plain")


def test_a_resumed_run_has_the_same_8_bit_moments(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    eight = [*TINY, "optimizer=adamw_8bit", "optimizer.full_embeddings=false"]
    main([f"checkpoints_dir={tmp_path}", "run=whole", *eight])
    main([f"checkpoints_dir={tmp_path}", "run=resumed", *eight, "trainer.max_steps=2"])
    main([f"checkpoints_dir={tmp_path}", "resume=resumed", "trainer.max_steps=4"])
    assert curve(tmp_path / "resumed") == curve(tmp_path / "whole")
    states = [
        torch.load(tmp_path / run / "last.ckpt", weights_only=True)["optimizer_states"][0]
        for run in ("whole", "resumed")
    ]
    moments = [list(leaves(state)) for state in states]
    assert any(tensor.dtype == torch.uint8 for tensor in moments[0])
    assert all(torch.equal(whole, resumed) for whole, resumed in zip(*moments, strict=True))


def leaves(node: object) -> list[Tensor]:
    if isinstance(node, dict):
        return [leaf for value in node.values() for leaf in leaves(value)]
    return [node] if isinstance(node, Tensor) else []


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    return sum(leaf.nbytes for state in optimizer.state.values() for leaf in leaves(state))


@pytest.fixture
def trained() -> Callable[[object], tuple[GPT2, torch.optim.Optimizer]]:
    """Makes an optimiser of a model, and takes five steps with gradients that are the same for each."""

    def train(make: object) -> tuple[GPT2, torch.optim.Optimizer]:
        torch.manual_seed(1)
        model = GPT2(GPT2Config(vocab_size=600, context_length=64, n_layer=2, n_head=2, n_embd=64))
        optimizer = make(model)
        for _ in range(5):
            steps(model, optimizer)
        return model, optimizer

    return train


def steps(model: GPT2, optimizer: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.sin(31 * parameter.detach()) + 0.1
    optimizer.step()


SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


def test_8_bit_moments_take_a_quarter_and_train_almost_alike(trained: Callable) -> None:
    pytest.importorskip("bitsandbytes")
    model, optimizer = trained(lambda model: adamw(model, **SETTINGS))
    quantised, eight = trained(lambda model: adamw_8bit(model, **SETTINGS, full_embeddings=False))
    mixed = trained(lambda model: adamw_8bit(model, **SETTINGS, full_embeddings=True))[1]
    assert state_bytes(eight) < 0.3 * state_bytes(optimizer)
    assert state_bytes(mixed) - state_bytes(eight) == pytest.approx(6 * model.token_embedding.weight.numel(), rel=0.1)
    moved = trained(lambda model: adamw(model, **{**SETTINGS, "lr": 1e-9}))[0]  # hardly
    for name, parameter in model.named_parameters():
        distance = (parameter - quantised.get_parameter(name)).norm()
        assert distance < 0.1 * (parameter - moved.get_parameter(name)).norm() + 1e-6, name


def test_8_bit_moments_without_bitsandbytes_are_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ResonanceError, match=r"needs bitsandbytes: pip install 'resonance\[memory\]'"):
        main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, "optimizer=adamw_8bit"])
    assert not list(tmp_path.iterdir())


def test_offloaded_moments_take_the_same_steps_and_load_each_other_s_state(trained: Callable) -> None:
    model, optimizer = trained(lambda model: adamw(model, **SETTINGS))
    other, offloaded = trained(lambda model: adamw(model, **SETTINGS, cpu_offload=True))
    assert isinstance(offloaded, OffloadedAdamW) and not offloaded.state
    states = optimizer.state_dict(), offloaded.state_dict()
    assert states[0]["state"].keys() == states[1]["state"].keys()
    optimizer.load_state_dict(states[1])
    offloaded.load_state_dict(states[0])
    steps(model, optimizer)
    steps(other, offloaded)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


def test_offloading_on_the_cpu_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ResonanceError, match=r"optimizer\.cpu_offload=true needs a CUDA GPU, and this run is on cpu"):
        main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, "optimizer.cpu_offload=true"])
    assert not list(tmp_path.iterdir())


def test_checkpointing_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(ResonanceError, match="activation_checkpointing must be true or false, not 'blocks'"):
        main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, "activation_checkpointing=blocks"])
