"""Scoring as work for the engine's steps: beside what is generated, in small pieces, cancelled at once."""

import random
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resonance.engine import Engine, EngineError, Piece, SamplingParams
from resonance.model import GPT2, GPT2Config

CONFIG = GPT2Config(vocab_size=97, context_length=640, n_layer=2, n_head=2, n_embd=32)
GENERATED = SamplingParams(max_new_tokens=500, temperature=0, ignore_eos=True)
STREAMED_BUDGET = 8  # the most tokens of scoring that may delay a streamed answer's next token


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def ids_of(length: int, seed: int = 0) -> list[int]:
    return torch.randint(97, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def steps(engine: Engine) -> list[list[tuple[str, Piece]]]:
    """What each step brings until there is nothing left to do."""
    brought: list[list[tuple[str, Piece]]] = []
    while engine.has_work:
        brought.append(engine.step())
    return brought


@torch.no_grad()
def expected_scores(model: GPT2, prompt: list[int], continuation: list[int]) -> torch.Tensor:
    """The log-probabilities (continuation, vocab) by one forward pass over the whole text."""
    return model(torch.tensor([prompt + continuation])).log_softmax(-1)[0, len(prompt) - 1 : -1]


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "torch"])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_scores_are_those_of_one_forward_pass_whatever_else_runs(model: GPT2, kernels: bool, seed: int) -> None:
    chance = random.Random(seed)
    engine = Engine(model, max_batch_size=chance.randint(1, 4), kernels=kernels, prompt_lookup=chance.random() < 0.5)
    shared = ids_of(300, 1)
    scored: dict[str, tuple[list[int], list[int], int]] = {}
    cancelled: set[str] = set()
    brought: dict[str, list[Piece]] = defaultdict(list)
    for arrival in range(chance.randint(2, 8)):
        text = shared[: chance.choice([1, 40, 200])] + [chance.randrange(97) for _ in range(chance.randint(1, 300))]
        owner = chance.choice([None, "ann"])
        if chance.random() < 0.4:
            engine.submit(text, SamplingParams(max_new_tokens=chance.randint(1, 30), n=chance.randint(1, 2)))
        else:
            at, top = chance.randint(1, len(text) - 1), chance.choice([0, 0, 3])
            name = engine.submit_score(text[:at], text[at:], top=top, request_id=f"score {arrival}", owner=owner)
            scored[name] = text[:at], text[at:], top
        for _ in range(chance.choice([0, 1, 5])):
            for name, piece in engine.step():
                brought[name].append(piece)
        if scored and chance.random() < 0.2 and engine.cancel(name := chance.choice(list(scored))):
            cancelled.add(name)
    for step in steps(engine):
        for name, piece in step:
            brought[name].append(piece)
    for name, (prompt, continuation, top) in scored.items():
        pieces = brought[name]
        scores = [score for piece in pieces for score in piece.scores]
        assert all(piece.token_id is None and piece.text == "" for piece in pieces)
        assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1].finish_reason == ("cancelled" if name in cancelled else "stop")
        assert [score.token_id for score in scores] == continuation[: len(scores)]
        assert len(scores) == len(continuation) or name in cancelled
        logs = expected_scores(model, prompt, continuation)
        for place, score in enumerate(scores):
            assert score.logprob == pytest.approx(float(logs[place, score.token_id]), abs=1e-4)
            best = logs[place].topk(top).values.tolist()
            assert [value for _, value in score.top_logprobs] == pytest.approx(best, abs=1e-4)


def test_a_streamed_answer_gets_a_token_a_step_beside_a_big_scoring_and_each_step_scores_little(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=6)
    stream = engine.submit([1, 2, 3], GENERATED)
    engine.step()
    for seed in range(8):  # more than there are slots
        engine.submit_score(ids_of(1), ids_of(600, seed))
    for step in steps(engine)[:100]:
        assert [piece.token_id is not None for name, piece in step if name == stream] == [True]
        assert sum(len(piece.scores) for _, piece in step) <= STREAMED_BUDGET


def test_a_step_without_a_stream_scores_so_little_that_whoever_comes_next_waits_little(model: GPT2) -> None:
    engine = Engine(model)
    for seed in range(8):
        engine.submit_score(ids_of(1), ids_of(600, seed))
    scored = [sum(len(piece.scores) for _, piece in step) for step in steps(engine)]
    assert sum(scored) == 8 * 600
    assert max(scored) <= 128


def test_a_prompt_goes_before_scorings_that_came_earlier_and_does_not_stop_them(model: GPT2) -> None:
    engine = Engine(model)
    engine.submit([1, 2, 3], GENERATED)
    engine.step()
    for seed in range(6):
        engine.submit_score(ids_of(1), ids_of(600, seed))
    engine.step()
    late = engine.submit(ids_of(200, 9), SamplingParams(max_new_tokens=1))
    brought = steps(engine)
    assert sum(len(piece.scores) for _, piece in brought[0]) <= STREAMED_BUDGET
    first = next(i for i, step in enumerate(brought) if late in dict(step))
    assert first <= 200 / 32 + 1
    assert all(any(piece.scores for _, piece in step) for step in brought[:first])


def test_a_cancelled_scoring_computes_nothing_more(model: GPT2) -> None:
    engine = Engine(model)
    name = engine.submit_score(ids_of(1), ids_of(639))
    engine.step()
    assert engine.cancel(name)
    computed = engine.stats().chunks
    assert [(piece.finish_reason, piece.scores) for _, piece in engine.step()] == [("cancelled", ())]
    assert engine.stats().chunks == computed
    assert not engine.has_work
    assert not engine.cancel(name)


def test_scored_tokens_are_counted_as_prompts_and_not_as_generated(model: GPT2) -> None:
    engine = Engine(model)
    engine.submit_score([1, 2], ids_of(50))
    steps(engine)
    stats = engine.stats()
    assert (stats.requests, stats.prompt_tokens, stats.generated_tokens) == (1, 51, 0)


def test_what_cannot_be_scored_is_refused_by_name(model: GPT2) -> None:
    engine = Engine(model)
    for continuation, top, sentence in (
        ([], 0, "at least one token"),
        ([97], 0, "Token id 97 at place 0 of the continuation"),
        ([1], -1, "top must be a whole number of at least 0, not -1"),
        ([1] * 641, 0, "641 tokens but the model's context holds 640"),
    ):
        with pytest.raises(EngineError, match=sentence):
            engine.submit_score([1], continuation, top=top)
    with pytest.raises(EngineError, match="must have at least one token"):
        engine.submit_score([], [1])
    engine.submit_score([1], [2], request_id="same")
    with pytest.raises(EngineError, match="already a request 'same'"):
        engine.submit_score([1], [2], request_id="same")
