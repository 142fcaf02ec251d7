"""The engine's CUDA path on fake tensors: every device and type is checked, and every wait for the device is listed."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from resonance.engine import Engine, SamplingParams
from resonance.engine.quantization import Precision
from resonance.model import GPT2, GPT2Config
from tests.fake_cuda.transfers import Transfers

CONFIG = GPT2Config(vocab_size=320, context_length=64, n_layer=1, n_head=2, n_embd=64)
PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9] * 8]

# Where a step waits for the device, and why it has to.
SAMPLE = "resonance/engine/sampler.py: sample"  # the sampled tokens, once a step: the next step's inputs
LOGPROBS = "resonance/engine/sampler.py: logprobs"  # what the request asked to be told
ALL_EXCLUDED = "resonance/engine/logits_processors.py: _process_row"  # whether a grammar or bans leave any token
EMBED = "resonance/engine/engine.py: embed"  # the result
EMBEDDED = "resonance/engine/scoring.py: consume"  # the result, once a text


@pytest.fixture(autouse=True)
def fake_cuda() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def model(dtype: torch.dtype = torch.bfloat16, **sizes: Any) -> GPT2:
    config = GPT2Config(**{**vars_of(CONFIG), **sizes})
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in GPT2(config).state_dict().items()}
    return GPT2.from_state(config, {name: torch.empty(s, dtype=dtype, device="cuda") for name, s in shapes.items()})


def vars_of(config: GPT2Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd")}


PRECISIONS: tuple[Precision, ...] = ("bf16", "int8", "int4")
GREEDY = SamplingParams(max_new_tokens=3, temperature=0)


@pytest.mark.parametrize(
    ("precision", "params"),
    [
        ("bf16", [GREEDY] * 3),
        ("int8", [GREEDY] * 3),
        ("int4", [GREEDY] * 3),
        (
            "bf16",
            [
                GREEDY,
                SamplingParams(max_new_tokens=3, top_k=5, seed=1),
                SamplingParams(max_new_tokens=3, top_p=0.9, min_p=0.1, temperature=0.7, seed=1),
            ],
        ),
        (
            "bf16",
            [
                SamplingParams(max_new_tokens=3, typical_p=0.9, seed=1),
                SamplingParams(max_new_tokens=3, repetition_penalty=1.2, frequency_penalty=0.1, logit_bias={3: 1.0}),
                SamplingParams(max_new_tokens=3, top_p=0.9, seed=2),
            ],
        ),
    ],
    ids=["greedy", "int8", "int4", "filters", "penalties"],
)
def test_a_step_waits_for_the_device_once(precision: Precision, params: list[SamplingParams]) -> None:
    engine = Engine(model(), max_batch_size=4, precision=precision)
    assert engine.stats().path == "torch with CUDA graphs"
    with Transfers() as transfers:
        engine.generate(PROMPTS, params)
    assert transfers.places == {SAMPLE: engine.stats().steps}


def test_log_probabilities_and_bans_wait_for_what_they_need() -> None:
    engine = Engine(model(), max_batch_size=4, precision="bf16")
    with Transfers() as transfers:
        engine.generate(PROMPTS[:1], SamplingParams(max_new_tokens=2, temperature=0, logprobs=3))
        engine.generate(PROMPTS[:1], SamplingParams(max_new_tokens=2, temperature=0, banned_token_ids=(3,)))
    assert set(transfers.places) <= {SAMPLE, LOGPROBS, ALL_EXCLUDED}


def test_scores_embeddings_and_second_turns() -> None:
    engine = Engine(model(), max_batch_size=2, precision="bf16")
    with Transfers() as transfers:
        engine.score([(prompt, [5, 6]) for prompt in PROMPTS])
        engine.embed(PROMPTS)
        engine.submit_embed(PROMPTS[2])
        while engine.has_work:
            engine.step()
        engine.generate([[*PROMPTS[2], 5], [*PROMPTS[2], 6]], SamplingParams(max_new_tokens=2))  # by copied prefixes
        assert engine.stats().cached_tokens > 0
    assert set(transfers.places) <= {SAMPLE, LOGPROBS, EMBED, EMBEDDED}
    assert transfers.places[EMBEDDED] == 1


def test_drafts_are_verified() -> None:
    looked_up = Engine(model(), max_batch_size=2, precision="bf16", prompt_lookup=True)
    drafted = Engine(model(), max_batch_size=2, precision="bf16", draft=model(n_embd=32))
    with Transfers() as transfers:
        looked_up.generate([[0, 0, 0, 0, 0, 0]], SamplingParams(max_new_tokens=6, temperature=0))
        drafted.generate(PROMPTS, SamplingParams(max_new_tokens=6, temperature=0))
    assert set(transfers.places) == {SAMPLE}
    assert looked_up.stats().drafted_tokens > 0
    assert drafted.stats().drafted_tokens > 0


def test_fp32_runs_without_flash_attention() -> None:
    engine = Engine(model(torch.float32), max_batch_size=4, precision="fp32")
    assert engine.stats().path == "torch"
    assert "without FlashAttention" in engine.stats().notes[0]
    with Transfers() as transfers:
        engine.generate(PROMPTS, GREEDY)
    assert transfers.places == {SAMPLE: engine.stats().steps}


@pytest.mark.parametrize("card", ["ROCm", "an older one"])
def test_cards_without_flash_attention_wait_no_more(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if card == "ROCm":
        monkeypatch.setattr(torch.version, "hip", "6.4")
    else:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    engine = Engine(model(), max_batch_size=4, precision="bf16")
    assert engine.stats().path == "torch"
    assert engine.stats().notes[0].endswith(f" wide, not {card}.")
    with Transfers() as transfers:
        engine.generate(PROMPTS, GREEDY)
    assert transfers.places == {SAMPLE: engine.stats().steps}


def test_few_bits_take_less_memory() -> None:
    sizes = {name: Engine(model(n_embd=128), precision=name).stats().weight_bytes for name in PRECISIONS}
    assert sizes["int8"] < 0.6 * sizes["bf16"]
    assert sizes["int4"] < 0.4 * sizes["bf16"]


def test_a_tensor_on_the_wrong_device_fails() -> None:
    wrong = model()
    wrong.norm.weight = torch.nn.Parameter(torch.empty(64, dtype=torch.bfloat16))  # on the CPU
    engine = Engine(wrong, max_batch_size=4, precision="bf16")
    with pytest.raises(RuntimeError, match=r"same device|cuda:0 and cpu"), Transfers():
        engine.generate(PROMPTS, SamplingParams(max_new_tokens=1))


def test_a_wait_for_the_device_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(model(), max_batch_size=4, precision="bf16")
    logits = GPT2.logits
    monkeypatch.setattr(GPT2, "logits", lambda self, hidden: (float(hidden.sum()), logits(self, hidden))[1])
    with Transfers() as transfers:
        engine.generate(PROMPTS, SamplingParams(max_new_tokens=1, temperature=0))
    assert transfers.places != {SAMPLE: engine.stats().steps}
