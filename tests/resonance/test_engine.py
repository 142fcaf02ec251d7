"""The engine against plain full forward passes, alone and in company."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resonance.engine import Engine, EngineError, SamplingParams
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

CONFIG = GPT2Config(vocab_size=97, context_length=48, n_layer=2, n_head=2, n_embd=32, dropout=0.1)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from uniform, so that an error shows in the argmax
            parameter.add_(torch.randn_like(parameter) * 0.25)
    return model


@pytest.fixture(scope="module")
def worded_model() -> GPT2:
    torch.manual_seed(1)
    return GPT2(GPT2Config(n_layer=1, n_head=2, n_embd=16, context_length=64)).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.gpt2()


def greedy(tokens: int, **more: object) -> SamplingParams:
    return SamplingParams(max_new_tokens=tokens, temperature=0, **more)


@torch.no_grad()
def full_forward(model: GPT2, prompt: list[int], tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def prompts_of(lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(97, (n,), generator=generator).tolist() for n in lengths]


def test_greedy_generation_is_the_argmax_of_full_forward_passes(model: GPT2) -> None:
    prompts = prompts_of([1, 5, 17, 30, 3, 8])
    done = Engine(model, max_batch_size=4).generate(prompts, greedy(12))
    assert [c.token_ids for c in done] == [full_forward(model, prompt, 12) for prompt in prompts]
    assert {c.finish_reason for c in done} == {"length"}
    assert [c.prompt_tokens for c in done] == [1, 5, 17, 30, 3, 8]


def test_a_text_uses_the_context_to_its_last_place(model: GPT2) -> None:
    prompt = prompts_of([40])[0]
    done = Engine(model).generate([prompt, prompt + [1] * 8], greedy(100))
    assert done[0].token_ids == full_forward(model, prompt, 9)
    assert len(done[1].token_ids) == 1
    assert done[0].finish_reason == done[1].finish_reason == "length"


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_company_arrivals_and_cancels_change_no_text(model: GPT2, data: st.DataObject) -> None:
    request = st.tuples(
        st.integers(1, 30),  # prompt length
        st.integers(1, 15),  # new tokens
        st.sampled_from([0.0, 1.0]),
        st.integers(0, 6),  # arrives so many steps after the one before
        st.one_of(st.none(), st.integers(0, 10)),  # cancelled so many steps after its arrival
        st.integers(0, 2),  # priority
    )
    requests = data.draw(st.lists(request, min_size=1, max_size=10))
    slots = data.draw(st.integers(1, 4))
    engine, alone = Engine(model, max_batch_size=slots), Engine(model, max_batch_size=1)
    prompts = prompts_of([r[0] for r in requests])
    filters = ({"top_k": 20}, {"top_p": 0.8}, {"min_p": 0.05, "presence_penalty": 0.5}, {})
    params = [
        SamplingParams(max_new_tokens=r[1], temperature=r[2], seed=i, **filters[i % 4]) for i, r in enumerate(requests)
    ]
    texts: dict[str, list[int]] = {}
    ends: dict[str, str | None] = {}
    cancels: dict[int, list[str]] = {}

    def step() -> None:
        for request_id, piece in engine.step():
            assert request_id not in ends
            if piece.token_id is not None:
                texts[request_id].append(piece.token_id)
            if piece.finish_reason:
                ends[request_id] = piece.finish_reason

    clock = 0
    for i, (_, _, _, after, cancelled, priority) in enumerate(requests):
        for _ in range(after):
            for request_id in cancels.pop(clock, []):
                engine.cancel(request_id)
            step()
            clock += 1
        request_id = engine.submit(prompts[i], params[i], request_id=str(i), priority=priority)
        texts[request_id] = []
        if cancelled is not None:
            cancels.setdefault(clock + cancelled, []).append(request_id)
    while engine.has_work:
        for request_id in cancels.pop(clock, []):
            engine.cancel(request_id)
        step()
        clock += 1
    assert set(ends) == set(texts)
    for i, (prompt, asked) in enumerate(zip(prompts, params, strict=True)):
        whole = alone.generate([prompt], asked)[0].token_ids
        got = texts[str(i)]
        assert got == whole[: len(got)]
        assert ends[str(i)] == "cancelled" or len(got) == len(whole)
    assert engine.stats().running == engine.stats().waiting == 0


def test_a_long_prompt_does_not_stall_running_streams(model: GPT2) -> None:
    engine = Engine(GPT2(GPT2Config(vocab_size=97, context_length=512, n_layer=1, n_head=2, n_embd=16)).eval())
    running = engine.submit([1, 2, 3], greedy(40))
    engine.step()
    engine.submit([5] * 400, greedy(2))
    for _ in range(6):  # the prompt takes 400 / 64 steps
        assert [request_id for request_id, _ in engine.step()] == [running]


def test_prompts_of_one_job_that_nobody_reads_along_are_not_held_back() -> None:
    engine = Engine(GPT2(GPT2Config(vocab_size=97, context_length=512, n_layer=1, n_head=2, n_embd=16)).eval())
    engine.generate([[1, 2, 3], [5] * 500], greedy(4))
    assert engine.stats().steps <= 6  # two for both prompts, since a step holds 512 tokens, and three more for the rest


def test_higher_priority_goes_first_and_equals_in_order_of_arrival(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=1)
    for name, priority in (("a", 0), ("b", 0), ("c", 1), ("d", 0)):
        engine.submit([1, 2], greedy(2), request_id=name, priority=priority)
    order: list[str] = []
    while engine.has_work:
        order += [request_id for request_id, piece in engine.step() if piece.finish_reason]
    assert order == ["c", "a", "b", "d"]


def test_a_shared_prefix_is_computed_once_and_only_within_one_owner(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=2)
    first, second = prompts_of([30])[0], prompts_of([30])[0] + [4, 5]
    whole = engine.generate([first], greedy(4), owner="ann")[0]
    again = engine.generate([second], greedy(4), owner="ann")[0]
    stranger = engine.generate([second], greedy(4), owner="bob")[0]
    nobody = engine.generate([second], greedy(4))[0]
    assert (whole.cached_tokens, again.cached_tokens, stranger.cached_tokens, nobody.cached_tokens) == (0, 30, 0, 0)
    assert again.token_ids == stranger.token_ids == nobody.token_ids == full_forward(model, second, 4)
    assert engine.stats().hit_rate == 30 / (30 + 32 * 3)


def test_a_prefix_is_copied_from_a_slot_that_is_still_in_use(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=3)
    prompt = prompts_of([25])[0]
    engine.submit(prompt, greedy(20))
    engine.step()
    done = engine.generate([[*prompt, 7], [*prompt, 9]], greedy(5))
    assert [c.cached_tokens for c in done] == [25, 25]
    assert [c.token_ids for c in done] == [full_forward(model, [*prompt, i], 5) for i in (7, 9)]


def test_n_answers_share_their_prompt_and_differ(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=4)
    prompt = prompts_of([24])[0]
    done = engine.generate([prompt, [3]], SamplingParams(max_new_tokens=10, n=3, seed=5))
    assert [c.index for c in done] == [0, 1, 2, 0, 1, 2]
    assert [c.cached_tokens for c in done[:3]] == [0, 23, 23]
    assert len({tuple(c.token_ids) for c in done}) == 6
    assert done[0].token_ids == engine.generate([prompt], SamplingParams(max_new_tokens=10, seed=5))[0].token_ids


def test_a_stream_gives_the_pieces_of_the_completion_while_others_run(model: GPT2) -> None:
    engine = Engine(model)
    other = engine.submit([9, 8, 7], greedy(30))
    pieces = list(engine.stream([1, 2, 3], greedy(6, logprobs=2)))
    assert [p.token_id for p in pieces] == full_forward(model, [1, 2, 3], 6)
    assert [p.finish_reason for p in pieces] == [None] * 5 + ["length"]
    theirs = [piece for request_id, piece in engine.step() if request_id == other]
    assert [p.token_id for p in theirs] == full_forward(model, [9, 8, 7], len(theirs))
    assert len(theirs) == 7


def test_closing_a_stream_frees_its_slot(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=1)
    stream = engine.stream([1, 2, 3], greedy(30))
    next(stream)
    stream.close()
    assert not engine.has_work
    assert engine.stats().cancelled == 1


def test_cancelling_waiting_and_running_requests_brings_one_last_piece(model: GPT2) -> None:
    engine = Engine(model, max_batch_size=1)
    for name in ("running", "waiting"):
        engine.submit([1, 2], greedy(10), request_id=name)
    engine.step()
    assert engine.cancel("running")
    assert engine.cancel("waiting")
    assert not engine.cancel("nobody")
    last = engine.step()
    assert [(name, p.token_id, p.finish_reason) for name, p in last] == [
        ("running", None, "cancelled"),
        ("waiting", None, "cancelled"),
    ]
    assert not engine.has_work


@torch.no_grad()
def test_scores_are_log_softmax_of_full_forward_passes(model: GPT2) -> None:
    prompts, continuations = prompts_of([3, 9, 20, 20]), prompts_of([5, 1, 7, 0])
    scores = Engine(model, max_batch_size=2).score(list(zip(prompts, continuations, strict=True)))
    for prompt, continuation, score in zip(prompts, continuations, scores, strict=True):
        logs = model(torch.tensor([prompt + continuation])).log_softmax(-1)[0]
        expected = [float(logs[len(prompt) - 1 + i, token]) for i, token in enumerate(continuation)]
        assert score == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_logprobs_are_the_models_own_before_any_filter(model: GPT2) -> None:
    prompt = prompts_of([6])[0]
    params = SamplingParams(max_new_tokens=5, temperature=0.5, top_k=3, seed=3, logprobs=4)
    done = Engine(model).generate([prompt], params)[0]
    logs = model(torch.tensor([prompt + done.token_ids])).log_softmax(-1)[0, 5:]
    assert done.logprobs is not None
    assert [t.token_id for t in done.logprobs] == done.token_ids
    for token, row in zip(done.logprobs, logs, strict=False):
        assert token.logprob == pytest.approx(float(row[token.token_id]), abs=1e-4)
        assert [i for i, _ in token.top_logprobs] == row.topk(4).indices.tolist()
    prompt_logs = Engine(model).prompt_logprobs(prompt + done.token_ids, top=2)
    assert [t.logprob for t in prompt_logs[5:]] == pytest.approx([t.logprob for t in done.logprobs], abs=1e-4)
    assert all(len(t.top_logprobs) == 2 for t in prompt_logs)


@torch.no_grad()
def test_embeddings_are_mean_hidden_states(model: GPT2) -> None:
    texts = prompts_of([4, 31, 9])
    expected = torch.stack([model(torch.tensor([ids]), return_hidden_states=True)[0].mean(0) for ids in texts])
    torch.testing.assert_close(Engine(model, max_batch_size=2).embed(texts), expected, atol=1e-4, rtol=1e-4)


def test_an_end_token_ends_the_text_and_is_no_part_of_it(model: GPT2) -> None:
    prompt = prompts_of([4])[0]
    plain = full_forward(model, prompt, 8)
    end = plain[3]
    at = plain.index(end)
    engine = Engine(model, eos_id=end)
    done = engine.generate([prompt], greedy(8))[0]
    assert (done.token_ids, done.finish_reason) == (plain[:at], "stop")
    assert [p.token_id for p in engine.stream(prompt, greedy(8))] == plain[: at + 1]
    assert engine.generate([prompt], greedy(8, ignore_eos=True))[0].token_ids == plain
    late = engine.generate([prompt], greedy(8, min_new_tokens=6))[0]
    assert len(late.token_ids) >= 6
    assert end not in late.token_ids[:6]
    by_id = Engine(model).generate([prompt], greedy(8, stop_token_ids=(end,)))[0]
    assert (by_id.token_ids, by_id.finish_reason) == (plain[:at], "stop")


def test_a_stop_string_never_shows_and_its_tokens_are_left_out(worded_model: GPT2, tokenizer: Tokenizer) -> None:
    engine = Engine(worded_model, tokenizer)
    params = SamplingParams(max_new_tokens=40, seed=2, ignore_eos=True)
    whole = engine.generate([[50256]], params)[0]
    assert whole.text == tokenizer.decode(whole.token_ids)
    stop = whole.text[30:36]
    cut = whole.text.index(stop)
    for pieces in (
        list(engine.stream([50256], SamplingParams(max_new_tokens=40, seed=2, ignore_eos=True, stop=(stop,)))),
    ):
        assert "".join(p.text for p in pieces) == whole.text[:cut]
        assert pieces[-1].finish_reason == "stop"
        assert all(p.finish_reason is None for p, _ in pairwise(pieces))
    done = engine.generate([[50256]], SamplingParams(max_new_tokens=40, seed=2, ignore_eos=True, stop=(stop,)))[0]
    assert done.text == whole.text[:cut]
    assert done.token_ids == whole.token_ids[: len(done.token_ids)]
    assert tokenizer.decode(done.token_ids).startswith(done.text)
    assert not tokenizer.decode(done.token_ids[:-1]).startswith(done.text)


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_guesses_from_the_prompt_save_steps_and_change_no_text(model: GPT2, temperature: float) -> None:
    prompts = [prompts_of([5])[0] * 4, prompts_of([7])[0] * 2, prompts_of([9])[0]]
    params = SamplingParams(max_new_tokens=24, temperature=temperature, seed=4, repetition_penalty=0.7)
    plain, guessing = Engine(model), Engine(model, prompt_lookup=True)
    expected = plain.generate(prompts, params)
    assert [c.token_ids for c in guessing.generate(prompts, params)] == [c.token_ids for c in expected]
    stats = guessing.stats()
    assert 0 < stats.accepted_tokens <= stats.drafted_tokens
    assert stats.steps < plain.stats().steps
    assert stats.generated_tokens == plain.stats().generated_tokens


def test_parameters_act_in_one_batch_as_each_would_alone(model: GPT2) -> None:
    prompt = prompts_of([7])[0]
    plain = full_forward(model, prompt, 6)
    params = [
        greedy(6),
        greedy(6, banned_token_ids=(plain[0],)),
        greedy(6, forced_token_ids=(11, 12)),
        greedy(6, logit_bias={42: 1e9}),
        greedy(6, logits_processors=(lambda new, logits: logits.roll(1),)),
        SamplingParams(max_new_tokens=6, repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=0.3, seed=1),
    ]
    done = Engine(model).generate([prompt] * len(params), params)
    assert done[0].token_ids == plain
    assert plain[0] not in done[1].token_ids
    assert done[2].token_ids[:2] == [11, 12]
    assert done[2].token_ids[2:] == full_forward(model, [*prompt, 11, 12], 4)
    assert done[3].token_ids == [42] * 6
    assert done[4].token_ids[0] == (plain[0] + 1) % 97
    for completion, asked in zip(done, params, strict=True):
        assert Engine(model).generate([prompt], asked)[0].token_ids == completion.token_ids


def test_a_failing_processor_leaves_the_engine_usable(model: GPT2) -> None:
    def fail(new: object, logits: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    engine = Engine(model)
    engine.submit([1, 2, 3], greedy(5), request_id="good")
    with pytest.raises(ZeroDivisionError):
        engine.generate([[1, 2]], greedy(5, logits_processors=(fail,)))
    tokens = []
    while engine.has_work:
        tokens += [piece.token_id for _, piece in engine.step()]
    assert tokens == full_forward(model, [1, 2, 3], 5)


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ([], SamplingParams(), "at least one token"),
        ([1] * 49, SamplingParams(), "49 tokens but the model's context holds 48"),
        ([1, 97], SamplingParams(), "Token id 97 at place 1 of the prompt"),
        ([-1], SamplingParams(), "Token id -1"),
        ([1], SamplingParams(logit_bias={100: 1.0}), "Token id 100 at place 0 of logit_bias"),
        ([1], SamplingParams(stop=("x",)), "need a tokenizer"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_in_a_sentence(
    model: GPT2, prompt: list[int], params: SamplingParams, message: str
) -> None:
    engine = Engine(model)
    for refused in (lambda: engine.submit(prompt, params), lambda: engine.generate([[1], prompt], params)):
        with pytest.raises(EngineError, match=message):
            refused()
    assert not engine.has_work


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1}, "temperature must be 0 or more, not -1"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1"),
        ({"min_new_tokens": 300}, "min_new_tokens"),
        ({"stop": "end"}, r"a sequence of strings like \('end',\), not 'end'"),
        ({"stop": ("",)}, "non-empty"),
        ({"n": 0}, "n must be"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        SamplingParams(**wrong)
