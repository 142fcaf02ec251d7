"""What nobody should ask of an engine is refused in a sentence; what is odd but right works."""

import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch

from resonance.engine import Engine, EngineError, SamplingParams
from resonance.engine.sampling_params import MAX_LOGIT_CHANGE
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

CONFIG = GPT2Config(vocab_size=97, context_length=48, n_layer=2, n_head=2, n_embd=32)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    return GPT2(CONFIG).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.gpt2()


@pytest.mark.parametrize(
    "name", [f.name for f in fields(SamplingParams) if f.name not in ("ignore_eos", "json_schema")]
)
@pytest.mark.parametrize(
    "wrong", [object(), "7", math.nan, 2.5j, [object()]], ids=["object", "text", "nan", "complex", "list"]
)
def test_a_parameter_of_a_wrong_kind_is_refused_by_name(name: str, wrong: object) -> None:
    if (name, wrong) in (("regex", "7"), ("grammar", "7")) or (name == "logits_processors" and isinstance(wrong, str)):
        return
    with pytest.raises(EngineError, match=f"^{name} must be "):
        SamplingParams(**{name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 1.5},
        {"top_k": 2.0},
        {"temperature": math.inf},
        {"seed": 1.5},
        {"logprobs": -1},
        {"n": 1.5},
        {"min_new_tokens": -1},
        {"repetition_penalty": 1e-320},  # none in single precision
        {"presence_penalty": -1e300},
        {"logit_bias": {1: math.nan}},
        {"logit_bias": {1: math.inf}},
        {"logit_bias": {"1": 1.0}},  # as JSON has it
        {"logit_bias": [(1, 1.0)]},
        {"banned_token_ids": 5},
        {"stop_token_ids": "\n"},
        {"forced_token_ids": (1.0,)},
        {"stop": None},
        {"stop": ("a", 5)},
        {"regex": 5},
        {"logits_processors": print},
        {"logits_processors": (5,)},
    ],
    ids=repr,
)
def test_values_that_only_look_right_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(EngineError, match=f"^{next(iter(wrong))} must be "):
        SamplingParams(**wrong)


@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": 1e-300},
        {"temperature": MAX_LOGIT_CHANGE},
        {"top_k": 10**30},
        {"top_p": 5e-324},
        {"min_p": 1.0},
        {"typical_p": 5e-324},
        {"repetition_penalty": MAX_LOGIT_CHANGE},
        {"repetition_penalty": 1 / MAX_LOGIT_CHANGE},
        {"presence_penalty": -MAX_LOGIT_CHANGE},
        {"frequency_penalty": MAX_LOGIT_CHANGE},
        {"logit_bias": {3: MAX_LOGIT_CHANGE, 4: -MAX_LOGIT_CHANGE, 5: -math.inf}},
        {"banned_token_ids": tuple(range(1, 97))},
        {"max_new_tokens": 10**30, "min_new_tokens": 10**29},
        {"seed": -(10**40)},
        {"logprobs": 10**6},
        {"stop_token_ids": [5, 6]},
    ],
    ids=repr,
)
@pytest.mark.parametrize("filters", [{}, {"top_k": 7, "top_p": 0.9}], ids=repr)
def test_extreme_values_give_texts(model: GPT2, extreme: dict[str, object], filters: dict[str, object]) -> None:
    params = SamplingParams(**{"max_new_tokens": 60, "seed": 1, "banned_token_ids": (96,), **filters, **extreme})
    done = Engine(model).generate([[1, 2, 3]], params)[0]
    assert done.finish_reason == "stop" or len(done.token_ids) == 46
    assert set(done.token_ids) <= set(range(97)) - {96}


@pytest.mark.parametrize(
    ("prompt", "shown"), [("hello", "'hello'"), ([1, [2]], r"\[1, \[2\]\]"), ([1.0], r"\[1\.0\]"), (None, "None")]
)
def test_a_prompt_that_is_no_token_ids_is_refused(model: GPT2, prompt: list[int], shown: str) -> None:
    engine = Engine(model)
    asks: list[Callable[[], object]] = [
        lambda: engine.submit(prompt),
        lambda: engine.stream(prompt),
        lambda: engine.generate([[1], prompt]),
        lambda: engine.embed([prompt]),
        lambda: engine.beam_search(prompt),
    ]
    for ask in asks:
        with pytest.raises(EngineError, match=f"The prompt must be a sequence of token ids, not {shown}"):
            ask()
    assert not engine.has_work


def test_ids_from_torch_are_as_good_as_any(model: GPT2) -> None:
    engine = Engine(model)
    params = SamplingParams(max_new_tokens=3, temperature=0)
    ids = torch.tensor([4, 5, 6])
    assert engine.generate([ids], params)[0].token_ids == engine.generate([[4, 5, 6]], params)[0].token_ids


@pytest.mark.parametrize("last", [97, -1])
def test_a_continuation_is_refused_for_its_last_token_too(model: GPT2, last: int) -> None:
    engine = Engine(model)
    with pytest.raises(EngineError, match=f"Token id {last} at place 1 of the continuation"):
        engine.score([([1], [2]), ([1], [2, last])])
    with pytest.raises(EngineError, match=f"Token id {last} at place 1"):
        engine.prompt_logprobs([1, 2, last])
    assert not engine.has_work


def test_lengths_about_the_context_are_served_to_the_last_place(model: GPT2) -> None:
    engine = Engine(model)
    params = SamplingParams(max_new_tokens=5, temperature=0)
    prompts = [[1] * n for n in (1, 47, 48)]
    assert [len(c.token_ids) for c in engine.generate(prompts, params)] == [5, 2, 1]
    with pytest.raises(EngineError, match="The prompt has 49 tokens but the model's context holds 48"):
        engine.generate([[1] * 49], params)
    assert len(engine.score([([1], [2] * 48)])[0]) == 48  # the last token is never read
    with pytest.raises(EngineError, match="49 tokens"):
        engine.score([([1], [2] * 49)])
    assert engine.embed([[1] * 48]).shape == (1, 32)
    assert engine.prompt_logprobs([1]) == engine.prompt_logprobs([]) == []
    assert engine.embed([]).shape == (0, 32)
    assert engine.generate([]) == engine.score([]) == []


def test_an_end_token_that_the_model_does_not_have_is_refused(model: GPT2) -> None:
    with pytest.raises(EngineError, match="Token id 97 at place 0 of eos_id"):
        Engine(model, eos_id=97)


def test_a_tokenizers_end_token_that_the_model_does_not_have_ends_nothing(model: GPT2, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer)
    done = engine.generate([[1, 2]], SamplingParams(max_new_tokens=9, min_new_tokens=5, seed=1))[0]
    assert len(done.token_ids) == 9
    assert done.text == tokenizer.decode(done.token_ids)
    with pytest.raises(EngineError, match="needs a model of all 50257 tokens of the tokenizer; this one has 97"):
        engine.submit([1], SamplingParams(regex="a+"))


def test_a_precision_that_there_is_not_is_refused(model: GPT2) -> None:
    with pytest.raises(EngineError, match="precision must be one of fp32, bf16, int8, int4, not 'fp16'"):
        Engine(model, precision="fp16")


def test_a_model_in_double_precision_is_computed_in_single(model: GPT2) -> None:
    double = GPT2(CONFIG).double()
    assert Engine(double).stats().precision == "fp32"
    assert Engine(GPT2(CONFIG).bfloat16()).stats().precision == "bf16"


def test_ids_that_callers_choose_and_those_that_are_given_do_not_collide(model: GPT2) -> None:
    engine = Engine(model)
    params = SamplingParams(max_new_tokens=3)
    for number in (1, 2, 4):
        engine.submit([1], params, request_id=f"request-{number}")
    assert len(engine.generate([[1], [2], [3]], params)) == 3
    with pytest.raises(EngineError, match="already a request 'again' under way"):
        for _ in range(2):
            engine.submit([1], params, request_id="again")


def test_a_priority_that_cannot_be_compared_is_refused_and_leaves_nothing_behind(model: GPT2) -> None:
    engine = Engine(model)
    with pytest.raises(EngineError, match="priority must be a whole number, not 'high'"):
        engine.submit([1], request_id="a", priority="high")
    assert engine.submit([1], request_id="a") == "a"


def test_bans_must_leave_a_token(model: GPT2) -> None:
    with pytest.raises(EngineError, match="banned_token_ids leave no token"):
        Engine(model).submit([1], SamplingParams(banned_token_ids=tuple(range(97))))


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_text_ends_where_bans_and_the_least_length_leave_nothing(model: GPT2, temperature: float) -> None:
    engine = Engine(model, eos_id=5)
    banned = tuple(i for i in range(97) if i != 5)
    params = SamplingParams(min_new_tokens=3, banned_token_ids=banned, temperature=temperature)
    done = engine.generate([[1], [2]], [params, SamplingParams(max_new_tokens=4, min_new_tokens=4)])
    assert (done[0].token_ids, done[0].finish_reason) == ([], "stop")
    assert len(done[1].token_ids) == 4


def test_a_processor_that_leaves_nothing_is_told_of_and_others_go_on(model: GPT2) -> None:
    engine = Engine(model)
    engine.submit([1, 2, 3], SamplingParams(max_new_tokens=3), request_id="good")
    never = SamplingParams(logits_processors=(lambda new, logits: logits - math.inf,))
    with pytest.raises(EngineError, match="leave no token after 1,"):
        engine.generate([[1]], never)
    engine.submit([1], never, request_id="bad")
    with pytest.raises(EngineError, match="leave no token"):
        while engine.has_work:
            engine.step()
    assert engine.cancel("bad")
    reasons = {}
    while engine.has_work:
        reasons.update({name: piece.finish_reason for name, piece in engine.step()})
    assert reasons == {"good": "length", "bad": "cancelled"}


def test_a_request_can_be_cancelled_from_within_its_own_step(model: GPT2) -> None:
    engine = Engine(model)

    def give_up(new: object, logits: torch.Tensor) -> torch.Tensor:
        assert engine.cancel("late")
        return logits

    engine.submit([1], SamplingParams(logits_processors=(give_up,), n=2), request_id="late")
    engine.submit([1], SamplingParams(max_new_tokens=2), request_id="good")
    pieces = []
    while engine.has_work:
        pieces += engine.step()
    assert [(p.token_id, p.finish_reason) for name, p in pieces if name == "late"] == [(None, "cancelled")] * 2
    assert [p.finish_reason for name, p in pieces if name == "good"] == [None, "length"]
    assert engine.stats().running == 0
