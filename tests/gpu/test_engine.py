"""The engine on a GPU: the same texts under any batching, graphs, and weights of a few bits."""

import json
import math
import time
from pathlib import Path

import pytest
import torch

from resonance.checkpoint import Checkpoint
from resonance.engine import Engine, SamplingParams
from resonance.engine.quantization import Precision
from tests.gpu.conftest import random_model

PROMPTS = [[index * 37 % 50000 + k for k in range(1 + index * 5)] for index in range(24)]
GREEDY = SamplingParams(max_new_tokens=24, temperature=0)


def texts(engine: Engine, prompts: list[list[int]], params: SamplingParams) -> list[list[int]]:
    return [completion.token_ids for completion in engine.generate(prompts, params)]


def test_greedy_texts_in_fp32_are_those_of_the_cpu_under_any_batching(device: torch.device) -> None:
    model = random_model()
    expected = texts(Engine(model), PROMPTS, GREEDY)
    for size in (1, 5, 24):
        engine = Engine(random_model().to(device), max_batch_size=size, precision="fp32")
        assert texts(engine, PROMPTS, GREEDY) == expected


def test_sampled_texts_in_fp32_are_those_of_the_cpu(device: torch.device) -> None:
    params = SamplingParams(max_new_tokens=24, temperature=0.8, top_k=40, top_p=0.9, seed=3)
    expected = texts(Engine(random_model()), PROMPTS[:6], params)
    assert texts(Engine(random_model().to(device), precision="fp32"), PROMPTS[:6], params) == expected


def test_bf16_runs_graphs_whose_hidden_states_are_near_fp32(device: torch.device) -> None:
    engine = Engine(random_model().to(device), max_batch_size=8, precision="bf16")
    if device.type == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        assert engine.stats().path == "torch with CUDA graphs"
    continuations = texts(engine, PROMPTS, GREEDY)
    reference = Engine(random_model())
    scores = [score for pair in zip(PROMPTS, continuations, strict=True) for score in reference.score([pair])[0]]
    own = [score for pair in zip(PROMPTS, continuations, strict=True) for score in engine.score([pair])[0]]
    assert sum(abs(a - b) for a, b in zip(scores, own, strict=True)) / len(own) < 0.05


def test_second_turns_scores_and_drafts(device: torch.device) -> None:
    model = random_model().to(device)
    plain = Engine(model, max_batch_size=4, precision="fp32")
    expected = texts(plain, PROMPTS[:8], GREEDY)
    looked_up = Engine(model, max_batch_size=4, precision="fp32", prompt_lookup=True)
    assert texts(looked_up, PROMPTS[:8], GREEDY) == expected
    drafted = Engine(model, max_batch_size=4, precision="fp32", draft=model)
    assert texts(drafted, PROMPTS[:8], GREEDY) == expected
    turns = [[*prompt, *answer, 5] for prompt, answer in zip(PROMPTS[4:8], expected[4:8], strict=True)]
    assert texts(plain, turns, GREEDY) == texts(Engine(random_model()), turns, GREEDY)
    assert plain.stats().cached_tokens > 0


@pytest.mark.parametrize(("precision", "most"), [("int8", 1.005), ("int4", 1.05)])
def test_perplexity_of_few_bits_is_that_of_bf16(
    device: torch.device, trained: Path, precision: Precision, most: float
) -> None:
    checkpoint = Checkpoint.open(trained)
    tokenizer, template = checkpoint.load_tokenizer(), checkpoint.template()
    file = Path(__file__).parents[2] / "data" / "basics"
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(file.glob("*.py")))
    ids = tokenizer.encode(text)[:4000]
    pairs = [([template.end_id], ids[start : start + 200]) for start in range(0, len(ids), 200)]

    def perplexity(name: Precision) -> tuple[float, int]:
        engine = Engine(checkpoint.load_model().to(device), precision=name)
        scores = [score for row in engine.score(pairs) for score in row]
        return math.exp(-sum(scores) / len(scores)), engine.stats().weight_bytes

    (expected, bf16_bytes), (found, nbytes) = perplexity("bf16"), perplexity(precision)
    if device.type == "cuda":
        assert nbytes < bf16_bytes * (0.6 if precision == "int8" else 0.4)
    assert found < expected * most


def test_graphs_make_decoding_faster(device: torch.device, record_property: object) -> None:
    if device.type != "cuda":
        pytest.skip("graphs are captured on a GPU")
    engine = Engine(random_model().to(device), max_batch_size=8, precision="bf16")
    params = SamplingParams(max_new_tokens=100, temperature=0, ignore_eos=True)
    texts(engine, PROMPTS[:8], params)
    seconds: list[float] = []
    for steps in (engine._runner._steps, {}):  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        if not steps:
            for step in engine._runner._steps.values():  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
                step._graph = None  # pyright: ignore[reportPrivateUsage]
        started = time.perf_counter()
        texts(engine, PROMPTS[:8], params)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"graphs_s": seconds[0], "without_s": seconds[1]}))
    assert seconds[0] < seconds[1]
