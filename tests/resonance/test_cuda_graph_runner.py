"""Decode steps in tensors that stay where they are, as a GPU records them, against the ordinary ones."""

import pytest
import torch

from resonance.engine import Engine, SamplingParams
from resonance.engine.cuda_graph_runner import CudaGraphRunner
from resonance.engine.kv_cache import KVCache
from resonance.engine.model_runner import TorchRunner
from resonance.engine.sequence import Chunk, Sequence
from resonance.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=97, context_length=40, n_layer=2, n_head=2, n_embd=32)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def sequences_of(lengths: dict[int, int]) -> list[Sequence]:
    generator = torch.Generator().manual_seed(0)
    return [
        Sequence(
            "", torch.randint(97, (length,), generator=generator).tolist(), SamplingParams(), 0, frozenset(), slot=slot
        )
        for slot, length in lengths.items()
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_static_decode_steps_are_the_ordinary_ones(model: GPT2, dtype: torch.dtype) -> None:
    device = torch.device("cpu")
    model = GPT2.from_state(CONFIG, {name: t.to(dtype) for name, t in model.state_dict().items()})
    plain, static = (runner(model, KVCache(CONFIG, 4, dtype, device)) for runner in (TorchRunner, CudaGraphRunner))
    sequences = sequences_of({2: 40, 0: 8, 3: 23})
    prompts = [Chunk(sequence, 0, sequence.token_ids[:-6], 1) for sequence in sequences]
    torch.testing.assert_close(static.hidden(prompts), plain.hidden(prompts))
    for back in range(6, 0, -1):
        for some in (
            sequences[:1],
            sequences[::-1],
        ):  # other numbers of sequences, other orders; the same token twice over
            step = [
                Chunk(sequence, len(sequence.token_ids) - back, [sequence.token_ids[len(sequence.token_ids) - back]], 1)
                for sequence in some
            ]
            tolerance = 1e-5 if dtype == torch.float32 else 5e-2
            torch.testing.assert_close(static.hidden(step), plain.hidden(step), atol=tolerance, rtol=tolerance)
            assert static.logits(static.hidden(step)).shape == (len(some), 97)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_on_a_gpu_texts_are_those_of_the_cpu(model: GPT2) -> None:
    params = [SamplingParams(max_new_tokens=20, temperature=0), SamplingParams(max_new_tokens=20, top_k=5, seed=1)]
    expected = Engine(model).generate([[1, 2, 3], [4]], params)
    engine = Engine(GPT2.from_state(CONFIG, {name: t.cuda() for name, t in model.state_dict().items()}))
    assert engine.stats().path == "torch with CUDA graphs"
    assert [c.token_ids for c in engine.generate([[1, 2, 3], [4]], params)] == [c.token_ids for c in expected]
