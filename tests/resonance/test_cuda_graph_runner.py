"""A GPU's steps, computed on the CPU by the same code with attention written out, against the ordinary runner's."""

import random

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine import Engine, SamplingParams
from resonance.engine.cuda_graph_runner import CudaGraphRunner, Lengths, batch_sizes, has_flash_attention
from resonance.engine.kv_cache import KVCache
from resonance.engine.model_runner import TorchRunner
from resonance.engine.sequence import Chunk, Sequence
from resonance.model import GPT2, GPT2Config

CPU = torch.device("cpu")
CONFIG = GPT2Config(vocab_size=97, context_length=40, n_layer=2, n_head=2, n_embd=32)


def written_out(query: Tensor, keys: Tensor, values: Tensor, lengths: Lengths) -> Tensor:
    """What FlashAttention computes for these arguments: see `Attention`."""
    outputs: list[Tensor] = []
    starts, ends = lengths.query_starts[:-1].tolist(), lengths.query_starts[1:].tolist()
    for start, end, first, count in zip(
        starts, ends, lengths.key_starts[:-1].tolist(), lengths.keys.tolist(), strict=True
    ):
        assert end - start <= lengths.most_queries
        assert count <= lengths.most_keys
        own = [t[None].transpose(1, 2) for t in (query[start:end], keys[first : first + count], values[first:][:count])]
        mask = torch.ones(end - start, count, dtype=torch.bool).tril(count - (end - start))
        outputs.append(F.scaled_dot_product_attention(*own, attn_mask=mask)[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def runners(model: GPT2, dtype: torch.dtype) -> tuple[TorchRunner, CudaGraphRunner]:
    model = GPT2.from_state(CONFIG, {name: t.to(dtype) for name, t in model.state_dict().items()})
    flat = KVCache(CONFIG, 6, dtype, CPU, by_layer=True)
    return TorchRunner(model, KVCache(CONFIG, 5, dtype, CPU)), CudaGraphRunner(model, flat, written_out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_in_one_row_are_those_of_each_sequence(model: GPT2, dtype: torch.dtype) -> None:
    plain, flat = runners(model, dtype)
    rng = random.Random(0)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    sequences = [
        Sequence(
            "", [rng.randrange(97) for _ in range(rng.randint(8, 40))], SamplingParams(), 0, frozenset(), slot=slot
        )
        for slot in rng.sample(range(5), 5)
    ]
    kinds = set[str]()
    while any(sequence.computed_tokens < len(sequence.token_ids) for sequence in sequences):
        chunks: list[Chunk] = []
        for sequence in rng.sample(sequences, rng.randint(1, 5)):
            rest = len(sequence.token_ids) - sequence.computed_tokens
            if rest:
                count = min(rest, rng.choice((1, 1, 1, 2, 9)))
                wanted = 1 if count == 1 and rng.random() < 0.9 else rng.randint(0, count)
                chunks.append(Chunk(sequence, sequence.computed_tokens, sequence.token_ids[-rest:][:count], wanted))
        if not chunks or not any(chunk.hidden_count for chunk in chunks):
            continue
        kinds.add("decode" if all(len(c.token_ids) == c.hidden_count == 1 for c in chunks) else "mixed")
        expected = plain.hidden(chunks)
        torch.testing.assert_close(flat.hidden(chunks), expected, atol=tolerance, rtol=tolerance)
        assert flat.logits(expected).shape == (len(expected), 97)
        for chunk in chunks:
            chunk.sequence.computed_tokens += len(chunk.token_ids)
    assert kinds == {"decode", "mixed"}


def test_a_copied_prefix_is_attended_to(model: GPT2) -> None:
    plain, flat = runners(model, torch.float32)
    first = Sequence("", list(range(20)), SamplingParams(), 0, frozenset(), slot=3)
    second = Sequence("", [*range(12), 50], SamplingParams(), 0, frozenset(), slot=1)
    for runner in (plain, flat):
        runner.hidden([Chunk(first, 0, first.token_ids, 1)])
        runner.cache.copy_prefix(3, 1, 12)
    step = [Chunk(second, 12, [50], 1)]
    torch.testing.assert_close(flat.hidden(step), plain.hidden(step), atol=1e-5, rtol=1e-5)


def test_rows_that_fill_up_a_step_write_to_the_spare_slot_only(model: GPT2) -> None:
    _, flat = runners(model, torch.float32)
    sequences = [Sequence("", [slot, 7], SamplingParams(), 0, frozenset(), slot=slot) for slot in (0, 2, 4)]
    for sequence in sequences:
        flat.hidden([Chunk(sequence, 0, [sequence.token_ids[0]], 0), Chunk(sequence, 1, [7], 1)])
    before = flat.cache.keys.clone()
    flat.hidden([Chunk(sequence, 2, [9], 1) for sequence in sequences])  # a step of 3, in the graph for 4
    changed = (flat.cache.keys != before).any(-1).any(1).any(1)  # (slots, context)
    assert changed.nonzero().tolist() == [[0, 2], [2, 2], [4, 2], [5, 0]]


def test_graphs_serve_powers_of_two_and_the_largest_batch() -> None:
    assert batch_sizes(1) == [1]
    assert batch_sizes(8) == [1, 2, 4, 8]
    assert batch_sizes(11) == [1, 2, 4, 8, 11]


def test_flash_attention_is_for_cuda_alone() -> None:
    assert not has_flash_attention(CPU, torch.bfloat16, 64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_on_a_gpu_texts_are_those_of_the_cpu(model: GPT2) -> None:
    params = [SamplingParams(max_new_tokens=20, temperature=0), SamplingParams(max_new_tokens=20, top_k=5, seed=1)]
    expected = Engine(model).generate([[1, 2, 3], [4]], params)
    engine = Engine(GPT2.from_state(CONFIG, {name: t.cuda() for name, t in model.state_dict().items()}))
    assert [c.token_ids for c in engine.generate([[1, 2, 3], [4]], params)] == [c.token_ids for c in expected]
