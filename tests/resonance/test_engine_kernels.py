"""The C++ kernels against torch, whatever the precision, the model's shape and the company in a step."""

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from resonance.engine import Engine, SamplingParams
from resonance.engine.kernels.bindings import KernelRunner
from resonance.engine.kernels.build import TARGETS, library
from resonance.engine.kv_cache import KVCache
from resonance.engine.model_runner import TorchRunner, fastest_precision
from resonance.engine.quantization import (
    INT4_GROUP,
    Precision,
    dequantize,
    fake_quantize,
    quantize_int4,
    quantize_int8,
)
from resonance.engine.sequence import Chunk, Sequence
from resonance.model import GPT2, GPT2Config

SHAPES = {
    "padded everywhere": GPT2Config(vocab_size=97, context_length=48, n_layer=2, n_head=2, n_embd=32),
    "heads of 64": GPT2Config(vocab_size=300, context_length=160, n_layer=2, n_head=3, n_embd=192),
    "untied head": GPT2Config(vocab_size=130, context_length=64, n_layer=1, n_head=3, n_embd=96, tie_weights=False),
}


@pytest.fixture(scope="module", autouse=True)
def kernels() -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler on this machine")
    library()


def model_of(shape: str) -> GPT2:
    torch.manual_seed(0)
    model = GPT2(SHAPES[shape]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def cache_of(config: GPT2Config, precision: Precision) -> KVCache:
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    return KVCache(config, 4, dtype, torch.device("cpu"))


def sequence(config: GPT2Config, slot: int, length: int) -> Sequence:
    generator = torch.Generator().manual_seed(100 * length + slot)
    ids = torch.randint(config.vocab_size, (length,), generator=generator).tolist()
    return Sequence("", ids, SamplingParams(), 0, frozenset(), slot=slot)


def chunk(sequence: Sequence, start: int, end: int) -> Chunk:
    return Chunk(sequence, start, sequence.token_ids[start:end], end - start)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    if request.param == "avx2" and platform.machine() != "x86_64":
        pytest.skip("AVX2 is for x86-64 processors")
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-6), ("bf16", 2e-2), ("int8", 3e-2), ("int4", 5e-2)])
def test_hidden_states_and_logits_are_torchs(shape: str, precision: Precision, tolerance: float, target: str) -> None:
    model = model_of(shape)
    config = model.config
    reference = fake_quantize(model, precision).float()  # the same weights, computed exactly
    kernel = KernelRunner(model, cache_of(config, precision), precision, target=target)
    plain = TorchRunner(reference, cache_of(config, "fp32"))
    sequences = [sequence(config, slot, length) for slot, length in enumerate((3, 40, 17, 46))]
    steps = [
        [chunk(sequences[1], 0, 5), chunk(sequences[2], 0, 1)],  # few rows
        [chunk(sequences[0], 0, 2), chunk(sequences[1], 5, 33), chunk(sequences[2], 1, 2)],  # several lengths at once
        [
            chunk(sequences[0], 2, 3),
            chunk(sequences[1], 33, 40),
            chunk(sequences[2], 2, 17),
            chunk(sequences[3], 0, 46),
        ],
    ]
    for step in steps:
        ours, expected = kernel.hidden(step), plain.hidden(step)
        assert float((ours - expected).norm() / expected.norm()) < tolerance
        ours, expected = kernel.logits(ours), plain.logits(expected)
        assert ours.shape == expected.shape
        assert float((ours - expected).norm() / expected.norm()) < tolerance


def test_in_fp32_a_rows_result_is_bit_for_bit_the_same_in_any_company(target: str) -> None:
    model = model_of("heads of 64")
    config = model.config
    sequences = [sequence(config, slot, 30) for slot in range(4)]
    together = KernelRunner(model, cache_of(config, "fp32"), "fp32", target=target)
    states = together.hidden([chunk(t, 0, 30) for t in sequences])
    logits = together.logits(states)
    alone = KernelRunner(model, cache_of(config, "fp32"), "fp32", target=target)
    for slot, t in enumerate(sequences):
        pieces = [alone.hidden([chunk(t, start, start + 10)]) for start in (0, 10, 20)]
        assert torch.equal(torch.cat(pieces), states[30 * slot : 30 * slot + 30])
        assert torch.equal(alone.logits(pieces[2][-1:]), logits[30 * slot + 29 : 30 * slot + 30])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_the_engine_says_what_it_computes_with(precision: Precision) -> None:
    model = model_of("heads of 64")
    stats = Engine(model, precision=precision).stats()
    assert (stats.precision, stats.path, stats.notes) == (precision, "C++ kernels", ())
    assert stats.weight_bytes < model.num_parameters() * {"fp32": 4.5, "bf16": 2.3, "int8": 1.3, "int4": 0.9}[precision]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_without_kernels_torch_computes_the_same_weights_and_says_so(precision: Precision) -> None:
    model = model_of("heads of 64")
    engine = Engine(model, precision=precision, kernels=False)
    pair = ([1, 2, 3], list(range(4, 60)))
    assert engine.score([pair])[0] == pytest.approx(Engine(model, precision=precision).score([pair])[0], abs=0.25)
    assert engine.stats().path == "torch"
    assert "switched off" in engine.stats().notes[0]


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder in which programs are found; it is empty."""
    library.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    yield tmp_path
    library.cache_clear()


def test_without_a_compiler_torch_generates_the_same_tokens_and_the_statistics_say_why(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("heads of 64")
    prompts = [[1, 2, 3], list(range(4, 60))]
    params = [SamplingParams(max_new_tokens=20, temperature=0), SamplingParams(max_new_tokens=20, top_k=9, seed=1)]
    engine = Engine(model, draft=model)
    assert engine.stats().path == "torch"
    note = "Computed by torch, which is slower than the C++ kernels: no C++ compiler found."
    assert engine.stats().notes == (note,)  # once, though the draft lacks them too
    monkeypatch.undo()
    kernels = Engine(model)
    assert kernels.stats().path == "C++ kernels"
    assert [c.token_ids for c in engine.generate(prompts, params)] == [
        c.token_ids for c in kernels.generate(prompts, params)
    ]


def test_a_compiler_that_fails_is_quoted_without_our_folders(path_folder: Path) -> None:
    compiler = path_folder / "g++"
    compiler.write_text(
        '#!/bin/sh\nfor source; do case "$source" in *.cpp) break;; esac; done\n'
        'echo "$source:1: error: no such instruction" >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    (note,) = Engine(model_of("heads of 64")).stats().notes
    assert "could not be built (gpt2.cpp:1: error: no such instruction)" in note


def test_int8_keeps_a_weight_to_half_a_step_and_int4_to_an_eighth_of_its_groups_largest() -> None:
    weight = torch.randn(70, 128, generator=torch.Generator().manual_seed(0))
    levels, scale = quantize_int8(weight)
    assert float((dequantize(levels, scale) - weight).abs().max()) <= float(scale.max()) / 2 + 1e-6
    levels, scale = quantize_int4(weight)
    error = (dequantize(levels, scale) - weight).unflatten(1, (-1, INT4_GROUP))
    largest = weight.unflatten(1, (-1, INT4_GROUP)).abs().amax(2, keepdim=True)
    assert bool((error.abs() <= 0.35 * largest).all())
    assert float(error.norm() / weight.norm()) < 0.1


def test_a_group_of_zeros_stays_zero() -> None:
    for levels, scale in (quantize_int8(torch.zeros(2, 64)), quantize_int4(torch.zeros(2, 64))):
        assert not dequantize(levels, scale).any()


def test_auto_measures_one_of_the_two_exact_precisions() -> None:
    assert fastest_precision(SHAPES["heads of 64"]) in ("fp32", "bf16")
