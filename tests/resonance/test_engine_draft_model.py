"""A smaller model writes ahead: the text stays what it is, and takes fewer steps."""

import math
from itertools import product

import pytest
import torch

from resonance.engine import Engine, EngineError, SamplingParams
from resonance.model import GPT2, GPT2Config


def model_of(seed: int, vocab_size: int = 97, context_length: int = 48, n_layer: int = 2) -> GPT2:
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=vocab_size, context_length=context_length, n_layer=n_layer, n_head=2, n_embd=32)
    model = GPT2(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="module")
def model() -> GPT2:
    return model_of(0)


@pytest.fixture(scope="module")
def kin(model: GPT2) -> GPT2:
    """A model that often, not always, says what the other one does."""
    kin = GPT2(model.config).eval()
    kin.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in kin.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.02)
    return kin


def prompts_of(lengths: list[int], vocab_size: int = 97) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(vocab_size, (n,), generator=generator).tolist() for n in lengths]


CASES = [
    SamplingParams(max_new_tokens=20, temperature=0),
    SamplingParams(max_new_tokens=20, temperature=0.8, seed=3),
    SamplingParams(max_new_tokens=20, top_k=10, top_p=0.9, seed=3),
    SamplingParams(max_new_tokens=20, top_p=0.9, seed=3, repetition_penalty=1.2, frequency_penalty=0.3),
    SamplingParams(max_new_tokens=20, seed=3, logprobs=2, logit_bias={5: 2.0}, min_new_tokens=4, stop_token_ids=(7,)),
]


@pytest.mark.parametrize("params", CASES, ids=range(len(CASES)))
def test_a_draft_changes_no_text_and_saves_steps(model: GPT2, kin: GPT2, params: SamplingParams) -> None:
    prompts = prompts_of([5, 17, 1])
    plain, drafting = Engine(model), Engine(model, draft=kin)
    expected, got = plain.generate(prompts, params), drafting.generate(prompts, params)
    assert [c.token_ids for c in got] == [c.token_ids for c in expected]
    for one, other in zip(got, expected, strict=True):
        assert [t.token_id for t in one.logprobs or ()] == [t.token_id for t in other.logprobs or ()]
        assert [t.logprob for t in one.logprobs or ()] == pytest.approx([t.logprob for t in other.logprobs or ()])
    stats = drafting.stats()
    assert 0 < stats.accepted_tokens < stats.drafted_tokens
    assert stats.acceptance == stats.accepted_tokens / stats.drafted_tokens
    assert stats.steps < plain.stats().steps
    assert stats.generated_tokens == plain.stats().generated_tokens


def test_nearly_the_same_model_guesses_right_when_sampling_from_few_tokens(model: GPT2, kin: GPT2) -> None:
    engine = Engine(model, draft=kin)
    params = [SamplingParams(max_new_tokens=30, top_k=8, seed=seed) for seed in range(20)]
    engine.generate(prompts_of([5]) * 20, params)
    assert engine.stats().acceptance > 0.35


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_that_is_the_model_itself_is_always_right(model: GPT2, temperature: float) -> None:
    engine = Engine(model, draft=model)
    params = SamplingParams(max_new_tokens=21, temperature=temperature, seed=1)
    text = engine.generate(prompts_of([4]), params)[0].token_ids
    assert text == Engine(model).generate(prompts_of([4]), params)[0].token_ids
    stats = engine.stats()
    assert stats.accepted_tokens == stats.drafted_tokens == 16
    assert stats.steps == 1 + 4  # the prompt, then five tokens a step


def test_a_draft_that_is_always_wrong_changes_no_text(model: GPT2) -> None:
    stranger = model_of(5, n_layer=1)
    params = SamplingParams(max_new_tokens=30, temperature=0.5, seed=2)
    prompts = prompts_of([9, 2])
    got = Engine(model, draft=stranger).generate(prompts, params)
    assert [c.token_ids for c in got] == [c.token_ids for c in Engine(model).generate(prompts, params)]


def test_texts_of_many_requests_that_share_prefixes_come_and_go_are_the_same(model: GPT2, kin: GPT2) -> None:
    base = prompts_of([30])[0]
    prompts = [base[: 3 * i + 1] for i in range(9)] + prompts_of([40, 2])
    params = [SamplingParams(max_new_tokens=3 + 2 * i, temperature=i % 2, seed=i) for i in range(len(prompts))]
    engine = Engine(model, max_batch_size=3, draft=kin)
    engine.submit(base, SamplingParams(max_new_tokens=10), request_id="cancelled")
    engine.step()
    engine.cancel("cancelled")
    got = engine.generate(prompts, params)
    alone = Engine(model, max_batch_size=1)
    assert [c.token_ids for c in got] == [
        alone.generate([p], a)[0].token_ids for p, a in zip(prompts, params, strict=True)
    ]


def test_a_draft_with_a_shorter_context_helps_as_far_as_it_reaches(model: GPT2) -> None:
    short = model_of(3, context_length=20)
    prompts = prompts_of([3, 30])
    params = SamplingParams(max_new_tokens=60, temperature=0)
    got = Engine(model, draft=short).generate(prompts, params)
    assert [c.token_ids for c in got] == [c.token_ids for c in Engine(model).generate(prompts, params)]
    assert len(got[0].token_ids) == 48 - 3 + 1


def test_long_prompts_are_read_in_parts(kin: GPT2) -> None:
    model, draft = model_of(0, context_length=1024), model_of(0, context_length=1024)
    params = SamplingParams(max_new_tokens=12, temperature=0)
    engine = Engine(model, draft=draft)
    prompts = prompts_of([700])
    assert engine.generate(prompts, params)[0].token_ids == Engine(model).generate(prompts, params)[0].token_ids
    assert engine.stats().acceptance == 1


@pytest.mark.parametrize("top_k", [0, 5])  # the whole vocabulary, by the two ways of drawing
def test_drafted_texts_follow_the_models_distribution(top_k: int) -> None:
    vocab, draws = 5, 2500
    model, draft = model_of(2, vocab_size=vocab, n_layer=1), model_of(6, vocab_size=vocab, n_layer=1)
    expected: dict[tuple[int, ...], float] = {}
    scores = Engine(model).score([([1, 2], text) for text in product(range(vocab), repeat=3)])
    for text, tokens in zip(product(range(vocab), repeat=3), scores, strict=True):
        expected[text] = math.exp(sum(tokens))
    assert sum(expected.values()) == pytest.approx(1)
    engine = Engine(model, max_batch_size=3, draft=draft)
    params = [SamplingParams(max_new_tokens=3, top_k=top_k, seed=seed) for seed in range(draws)]
    counts = dict.fromkeys(expected, 0)
    for done in engine.generate([[1, 2]] * draws, params):
        counts[tuple(done.token_ids)] += 1
    assert engine.stats().drafted_tokens > draws / 2
    often = [text for text, p in expected.items() if p * draws >= 5]
    statistic = sum((counts[text] - expected[text] * draws) ** 2 / (expected[text] * draws) for text in often)
    freedom = len(often) - 1
    assert freedom > 20
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


def test_drafts_of_another_vocabulary_and_two_ways_of_guessing_are_refused(model: GPT2) -> None:
    with pytest.raises(EngineError, match="draft has a vocabulary of 98 tokens and the model one of 97"):
        Engine(model, draft=model_of(0, vocab_size=98))
    with pytest.raises(EngineError, match="not by both"):
        Engine(model, draft=model, prompt_lookup=True)
