"""Beam search against trying everything."""

from itertools import product

import pytest
import torch

from resonance.engine import Completion, Engine, EngineError, SamplingParams
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

VOCAB, NEW = 5, 4
PROMPT = [1, 3]


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(4)
    model = GPT2(GPT2Config(vocab_size=VOCAB, context_length=32, n_layer=2, n_head=2, n_embd=32)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def score(text: tuple[int, ...], logprob: float, length_penalty: float) -> float:
    return logprob / len(text) ** length_penalty


def everything(model: GPT2, end: int | None, length_penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every text of at most NEW tokens that ends where an end token or the length ends it, best first."""
    texts = {text[: text.index(end) + 1] if end in text else text for text in product(range(VOCAB), repeat=NEW)}
    ordered = sorted(texts)
    sums = [sum(tokens) for tokens in Engine(model).score([(PROMPT, text) for text in ordered])]
    scored = [(score(text, total, length_penalty), text) for text, total in zip(ordered, sums, strict=True)]
    return sorted(scored, reverse=True)


def rank(completion: Completion, length_penalty: float) -> float:
    logprobs = completion.logprobs or []
    return sum(token.logprob for token in logprobs) / len(logprobs) ** length_penalty


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("end", [None, 2])
def test_a_wide_beam_finds_what_trying_everything_finds(model: GPT2, end: int | None, length_penalty: float) -> None:
    best = everything(model, end, length_penalty)
    engine = Engine(model, eos_id=end)
    found = engine.beam_search(
        PROMPT, SamplingParams(max_new_tokens=NEW), width=VOCAB**NEW, length_penalty=length_penalty
    )
    assert len(found) == len(best)
    for completion, (value, text) in zip(found[:10], best, strict=False):
        ended = end in text
        assert completion.finish_reason == ("stop" if ended else "length")
        assert completion.token_ids == list(text[: len(text) - ended])
        whole = sum(Engine(model).score([(PROMPT, text)])[0])
        assert score(text, whole, length_penalty) == pytest.approx(value, abs=1e-4)


def test_a_narrow_beam_is_greedy_at_width_one_and_never_worse_when_wider(model: GPT2) -> None:
    engine = Engine(model)
    params = SamplingParams(max_new_tokens=12, temperature=0)
    greedy = engine.generate([PROMPT], params)[0]
    one = engine.beam_search(PROMPT, params, width=1)
    assert [c.token_ids for c in one] == [greedy.token_ids]
    found = engine.beam_search(PROMPT, params, width=4)
    assert len(found) == 4
    ranks = [rank(completion, 1.0) for completion in found]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] >= rank(one[0], 1.0)
    for completion in found:
        expected = engine.score([(PROMPT, completion.token_ids)])[0]
        assert [t.logprob for t in completion.logprobs or ()] == pytest.approx(expected, abs=1e-4)


def test_the_length_penalty_chooses_between_short_and_long_texts(model: GPT2) -> None:
    engine = Engine(model, eos_id=2)
    params = SamplingParams(max_new_tokens=NEW)
    short = engine.beam_search(PROMPT, params, width=20, length_penalty=-2.0)[0]
    long = engine.beam_search(PROMPT, params, width=20, length_penalty=3.0)[0]
    assert len(short.token_ids) < len(long.token_ids)


def test_beams_obey_bans_biases_forced_tokens_and_the_least_length(model: GPT2) -> None:
    engine = Engine(model, eos_id=2)
    params = SamplingParams(
        max_new_tokens=6, banned_token_ids=(0,), forced_token_ids=(4,), min_new_tokens=3, logit_bias={1: -50.0}
    )
    for completion in engine.beam_search(PROMPT, params, width=6):
        assert completion.token_ids[0] == 4
        assert len(completion.token_ids) >= 3
        assert not {0, 1} & set(completion.token_ids)


def test_a_beam_wider_than_the_batch_goes_on_beside_other_requests_to_the_end_of_the_context(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=2)
    other = engine.submit([4, 4], SamplingParams(max_new_tokens=20, temperature=0))
    prompt = [1, 3] * 14
    found = engine.beam_search(prompt, SamplingParams(max_new_tokens=50), width=5)
    assert {len(completion.token_ids) for completion in found} == {32 - 28 + 1}
    assert [c.token_ids for c in found] == [
        c.token_ids for c in Engine(model).beam_search(prompt, SamplingParams(max_new_tokens=50), width=5)
    ]
    pieces = [piece for request_id, piece in engine.step() if request_id == other]
    while engine.has_work:
        pieces += [piece for _, piece in engine.step()]
    alone = Engine(model).generate([[4, 4]], SamplingParams(max_new_tokens=20, temperature=0))[0]
    assert [piece.token_id for piece in pieces] == alone.token_ids


def test_hypotheses_take_their_prefixes_from_the_cache(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=8)
    engine.beam_search([1, 3] * 12, SamplingParams(max_new_tokens=6), width=3)
    stats = engine.stats()
    assert stats.prompt_tokens - stats.cached_tokens < 24 + 3 * 6 * 3


def test_a_beam_has_text_where_there_is_a_tokenizer_and_refuses_what_it_cannot_do() -> None:
    torch.manual_seed(1)
    tokenizer = Tokenizer.gpt2()
    engine = Engine(GPT2(GPT2Config(n_layer=1, n_head=2, n_embd=16, context_length=64)).eval(), tokenizer)
    best = engine.beam_search([50256], SamplingParams(max_new_tokens=4), width=2)[0]
    assert best.text == tokenizer.decode(best.token_ids)
    for wrong in ({"stop": ("a",)}, {"regex": "a"}, {"n": 2}):
        with pytest.raises(EngineError, match="Beam search knows no"):
            engine.beam_search([50256], SamplingParams(**wrong))
    with pytest.raises(EngineError, match="width must be at least 1, not 0"):
        engine.beam_search([50256], width=0)
    for penalty in (float("nan"), float("inf"), 1e6):
        with pytest.raises(EngineError, match="length_penalty must be between -100 and 100"):
            engine.beam_search([50256], length_penalty=penalty)
    assert not engine.has_work
