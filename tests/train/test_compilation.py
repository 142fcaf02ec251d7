"""Compiled blocks: when a run has them, what it refuses, and that they train as the others do."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf
from safetensors import safe_open

from resonance.errors import ResonanceError
from resonance.hydra_config import ConfigError
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from tests.train.tiny_runs import CONSTANT_RATE, TINY_RUN
from train import compilation
from train.compilation import Compilation, compile_blocks
from train.run import main

TINY = [
    *TINY_RUN,
    *CONSTANT_RATE,
    "model.n_layer=3",
    "model.n_head=2",
    "model.n_embd=32",
    "data_cache=false",
    "trainer.max_steps=4",
    "trainer.val_every_n_steps=2",
    "callbacks.samples.every_n_steps=2",
    "callbacks.samples.max_new_tokens=8",
    "logger=none",
]


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let torch.compile trace and build nothing; returns the graphs that it would have built, one entry for each."""
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        graphs.append(str(graph.graph))
        return graph.forward

    monkeypatch.setattr(compilation, "BACKEND", backend)
    return graphs


def config(**keys: object) -> DictConfig:
    nodes = {
        "compile": "auto",
        "adapter": None,
        "batch": {"size": 1, "packing": True, "row_length": None},
        "trainer": {"deterministic": "auto"},
    }
    return OmegaConf.merge(nodes, keys)  # pyright: ignore[reportReturnType]  # a DictConfig, of two dicts


def resolve(
    node: DictConfig, device: str, steps: int = 10_000, recorded: bool | None = None
) -> tuple[Compilation, GPT2]:
    """What a run would do; on a device that is not there only where nothing is computed."""
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(device)), max_steps=steps, accumulate_grad_batches=2
    )
    training: dict[str, object] = {} if recorded is None else {"compiled": recorded}
    metadata = cast(Metadata, SimpleNamespace(training=training))
    model = GPT2(GPT2Config(vocab_size=20, context_length=16, n_layer=2, n_head=2, n_embd=16))
    return compile_blocks(node, model, cast(Trainer, trainer), metadata), model


@pytest.fixture
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for compiling, which needs the device."""

    def compile_nothing(*_: object) -> float:
        return 12.0

    monkeypatch.setattr(compilation, "_compile", compile_nothing)


@pytest.mark.usefixtures("compiled_at_once")
@pytest.mark.parametrize(
    ("wanted", "device", "steps", "recorded", "compiled"),
    [
        ("auto", "cuda", 1_000, None, True),  # of two micro-batches each
        ("auto", "cuda", 999, None, False),
        ("auto", "cuda", 999, True, True),  # as the run that is resumed
        ("auto", "cuda", 10_000, False, False),
        ("auto", "cpu", 10_000, None, False),
        ("auto", "cpu", 10_000, True, True),
        ("auto", "mps", 10_000, None, False),
        (True, "cpu", 1, None, True),
        (True, "cuda", 1, False, True),
        (False, "cuda", 10_000, True, False),
    ],
)
def test_auto_compiles_long_runs_on_a_gpu_and_what_was_compiled_before(
    wanted: bool | str, device: str, steps: int, recorded: bool | None, compiled: bool
) -> None:
    done, _ = resolve(config(compile=wanted), device, steps, recorded)
    assert done.compiled is compiled


def test_auto_says_why_a_run_on_a_gpu_is_not_compiled() -> None:
    done, _ = resolve(config(), "cuda", 999)
    assert done.notes == ["blocks are not compiled: 1,998 micro-batches are fewer than the 2,000 it pays for"]


def test_older_runs_which_have_no_such_key_are_not_compiled() -> None:
    node = config()
    del node["compile"]
    assert resolve(node, "cuda")[0] == Compilation(compiled=False)


@pytest.mark.parametrize(
    ("device", "keys", "reason"),
    [
        ("cuda", {"batch": {"packing": False}}, "with batch.packing=false each batch has another length"),
        ("cuda", {"adapter": {"base_dtype": "int8"}}, "adapter.base_dtype=int8"),
        ("cuda", {"trainer": {"deterministic": True}}, "trainer.deterministic=true would not hold"),
        ("mps", {}, "not for mps"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name_and_auto_goes_on_without(
    device: str, keys: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigError, match=f"^compile=true cannot be kept: .*{reason}.*; set compile=false.$"):
        resolve(config(**keys, compile=True), device)
    done, _ = resolve(config(**keys), device, recorded=True)
    assert not done.compiled
    assert reason in done.notes[0]


def test_a_compiler_that_fails_is_named_and_leaves_the_blocks_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("No working C++ compiler found\nin any of: g++")

    monkeypatch.setattr(compilation, "_try", fail)
    with pytest.raises(ConfigError, match="failed with RuntimeError: No working C\\+\\+ compiler found; set"):
        resolve(config(compile=True), "cpu")
    done, model = resolve(config(), "cpu", recorded=True)
    assert not done.compiled
    assert not any("forward" in vars(block) for block in model.blocks)


@pytest.mark.parametrize("value", ["yes", "null", "1"])
def test_other_values_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ResonanceError, match=f"compile must be auto, true or false, not '?{value}'?"):
        main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, f"compile={value}"])
    assert not (tmp_path / "run").exists()


def test_a_refused_run_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch\.packing=false"):
        main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, "compile=true", "batch.packing=false"])
    assert not (tmp_path / "run").exists()


def test_a_run_compiles_once_for_all_layers_and_is_resumed_without(tmp_path: Path, traced_only: list[str]) -> None:
    main([f"checkpoints_dir={tmp_path}", "run=plain", *TINY])
    assert not traced_only
    main([f"checkpoints_dir={tmp_path}", "run=run", *TINY, "compile=true", "trainer.max_steps=2"])
    assert len(traced_only) == 2  # before and after attention, whatever the layer and the documents
    assert record(tmp_path / "run")["compiled"] is True
    main([f"checkpoints_dir={tmp_path}", "resume=run", "trainer.max_steps=4", "compile=false"])
    assert len(traced_only) == 2
    assert record(tmp_path / "run")["compiled"] is False
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "plain"), rel=2e-3)
    assert names(tmp_path / "run") == names(tmp_path / "plain")


@pytest.mark.slow
def test_adapters_and_checkpointed_activations_are_compiled_too(tmp_path: Path, traced_only: list[str]) -> None:
    keys = [*TINY, "adapter=lora", "adapter.rank=2", "trainer.precision=32-true", "optimizer.lr=1e-2"]
    main([f"checkpoints_dir={tmp_path}", "run=plain", *keys])
    main([f"checkpoints_dir={tmp_path}", "run=run", *keys, "compile=true", "activation_checkpointing=true"])
    assert len(traced_only) == 4  # the first layer's input needs no gradient
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    assert names(tmp_path / "run") == names(tmp_path / "plain")


@pytest.mark.slow
def test_compiled_blocks_train_on_the_same_curve_and_resume_on_it(tmp_path: Path) -> None:
    keys = [*TINY, "trainer.precision=32-true", "optimizer.lr=1e-2", "model.dropout=0"]
    main([f"checkpoints_dir={tmp_path}", "run=plain", *keys])
    main([f"checkpoints_dir={tmp_path}", "run=compiled", *keys, "compile=true"])
    main([f"checkpoints_dir={tmp_path}", "run=resumed", *keys, "compile=true", "trainer.max_steps=2"])
    main([f"checkpoints_dir={tmp_path}", "resume=resumed", "trainer.max_steps=4"])
    plain, compiled, resumed = (losses(tmp_path / run) for run in ("plain", "compiled", "resumed"))
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert plain[-1] < plain[0]
    assert resumed == compiled
    assert names(tmp_path / "compiled") == names(tmp_path / "plain")


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "resonance.json").read_text())["training"]


def names(folder: Path) -> list[list[str]]:
    """The names of the tensors that the run's files hold."""
    state = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        return [sorted(file.keys()), sorted(state)]
