"""What the engine tells in numbers: likelihoods and embeddings against the model's own forward pass, and statistics."""

import pytest
import torch

from resonance.engine import Engine, EngineError, SamplingParams
from resonance.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=97, context_length=640, n_layer=2, n_head=2, n_embd=64, dropout=0.1)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="module", params=[True, False], ids=["kernels", "torch"])
def engine(model: GPT2, request: pytest.FixtureRequest) -> Engine:
    return Engine(model, max_batch_size=3, kernels=request.param)


def ids_of(length: int, seed: int = 0) -> list[int]:
    return torch.randint(97, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.no_grad()
def test_scores_of_texts_longer_than_a_step_are_the_training_forwards(model: GPT2, engine: Engine) -> None:
    pairs = [(ids_of(1, 1), ids_of(600, 2)), (ids_of(300, 3), ids_of(300, 4)), (ids_of(7, 5), ids_of(1, 6))]
    for (prompt, continuation), score in zip(pairs, engine.score(pairs), strict=True):
        logs = model(torch.tensor([prompt + continuation])).log_softmax(-1)[0]
        expected = logs[torch.arange(len(prompt) - 1, len(prompt + continuation) - 1), continuation]
        torch.testing.assert_close(torch.tensor(score), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_prompt_logprobs_are_the_training_forwards_though_the_prompt_is_cached(model: GPT2, engine: Engine) -> None:
    ids = ids_of(200, 7)
    engine.generate([ids], SamplingParams(max_new_tokens=1))
    logs = model(torch.tensor([ids])).log_softmax(-1)[0]
    told = engine.prompt_logprobs(ids, top=5)
    assert [token.token_id for token in told] == ids[1:]
    for place, token in enumerate(told):
        assert token.logprob == pytest.approx(float(logs[place, ids[place + 1]]), abs=1e-4)
        values, best = logs[place].topk(5)
        assert [i for i, _ in token.top_logprobs] == best.tolist()
        assert [value for _, value in token.top_logprobs] == pytest.approx(values.tolist(), abs=1e-4)


@torch.no_grad()
def test_embeddings_of_texts_longer_than_a_step_are_the_training_forwards(model: GPT2, engine: Engine) -> None:
    texts = [ids_of(1, 8), ids_of(620, 9), ids_of(64, 10), ids_of(64, 10)]
    expected = torch.stack([model(torch.tensor([ids]), return_hidden_states=True)[0].mean(0) for ids in texts])
    torch.testing.assert_close(engine.embed(texts), expected, atol=1e-4, rtol=1e-4)


def test_nothing_has_no_scores_and_no_embeddings_and_needs_a_prompt(engine: Engine) -> None:
    assert engine.score([]) == []
    assert engine.score([([1], [])]) == [[]]
    assert engine.prompt_logprobs([1]) == []
    assert engine.embed([]).shape == (0, 64)
    with pytest.raises(EngineError, match="at least one token"):
        engine.score([([], [1])])
    with pytest.raises(EngineError, match="641 tokens but the model's context holds 640"):
        engine.embed([[1] * 641])


def test_logprobs_belong_to_each_of_n_answers_in_its_own_number(model: GPT2) -> None:
    engine = Engine(model)
    params = [SamplingParams(max_new_tokens=4, n=2, seed=1, logprobs=top, logit_bias={3: 4.0}) for top in (0, 3)]
    done = engine.generate([[1, 2], [1, 2]], params)
    for completion, top in zip(done, (0, 0, 3, 3), strict=True):
        assert completion.logprobs is not None
        assert [token.token_id for token in completion.logprobs] == completion.token_ids
        assert {len(token.top_logprobs) for token in completion.logprobs} == {top}
        scores = engine.score([([1, 2], completion.token_ids)])[0]  # the model's own, before the bias
        assert [token.logprob for token in completion.logprobs] == pytest.approx(scores, abs=1e-4)


def test_stop_ids_end_a_text_though_the_end_token_is_ignored(model: GPT2) -> None:
    engine = Engine(model, eos_id=9)
    params = SamplingParams(max_new_tokens=5, forced_token_ids=(9, 8, 7), ignore_eos=True, stop_token_ids=(7,))
    done = engine.generate([[1]], params)[0]
    assert (done.token_ids, done.finish_reason) == ([9, 8], "stop")


def test_statistics_tell_what_was_computed_reused_and_how_fast(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=4)
    fresh = engine.stats()
    assert (fresh.hit_rate, fresh.acceptance, fresh.batch_size, fresh.tokens_per_second) == (0, 0, 0, 0)
    assert fresh.load_seconds > 0
    assert fresh.weight_bytes >= 4 * model.num_parameters()
    assert fresh.cache_bytes >= 4 * 2 * 4 * CONFIG.n_layer * CONFIG.n_embd * CONFIG.context_length
    for name in ("a", "b"):
        engine.submit(ids_of(40), SamplingParams(max_new_tokens=8), request_id=name)
    engine.step()
    assert (engine.stats().running, engine.stats().waiting, engine.stats().slots) == (2, 0, 4)
    while engine.has_work:
        engine.step()
    engine.generate([ids_of(40)], SamplingParams(max_new_tokens=8))
    stats = engine.stats()
    assert (stats.requests, stats.cancelled, stats.generated_tokens) == (3, 0, 24)
    assert (stats.prompt_tokens, stats.cached_tokens) == (120, 39)
    assert stats.hit_rate == 39 / 120
    assert stats.batch_size == stats.chunks / stats.steps == 24 / 16
    assert stats.tokens_per_second == 24 / stats.busy_seconds > 0


def test_a_model_that_the_kernels_do_not_know_is_computed_by_torch_and_noted() -> None:
    odd = GPT2(GPT2Config(vocab_size=31, context_length=16, n_layer=1, n_head=2, n_embd=10)).eval()
    engine = Engine(odd, draft=odd)
    assert engine.stats().path == "torch"
    assert "heads of width" in engine.stats().notes[0]
    text = engine.generate([[1, 2]], SamplingParams(max_new_tokens=5, temperature=0))[0].token_ids
    assert text == Engine(odd).generate([[1, 2]], SamplingParams(max_new_tokens=5, temperature=0))[0].token_ids
