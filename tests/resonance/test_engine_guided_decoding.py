"""Constrained output: whatever the model would say, the text matches."""

import json
import re
from typing import Any

import jsonschema
import pytest
import torch

from resonance.engine import Engine, EngineError, SamplingParams
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "maximum": 120, "minimum": 0},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(n_layer=1, n_head=2, n_embd=32, context_length=256)).eval()
    return Engine(model, Tokenizer.gpt2())


def test_texts_of_a_random_model_are_json_of_the_schema(engine: Engine) -> None:
    params = [SamplingParams(max_new_tokens=200, seed=seed, json_schema=SCHEMA, top_k=50) for seed in range(6)]
    for done in engine.generate([[50256]] * 6, params):
        assert done.finish_reason == "stop"
        jsonschema.validate(json.loads(done.text), SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "array", "items": {"type": "number"}, "minItems": 2},
        {
            "type": "object",
            "properties": {"title": {"type": "string"}, "steps": {"type": "array", "items": {"type": "string"}}},
            "required": ["title", "steps"],
        },
        {"enum": ["a rather long choice", "another long choice"]},
    ],
    ids=["object", "numbers", "recipe", "choice"],
)
def test_a_text_that_would_not_end_is_closed_within_its_tokens(engine: Engine, schema: dict[str, Any]) -> None:
    for size in (24, 40):
        params = [SamplingParams(max_new_tokens=size, seed=seed, json_schema=schema) for seed in range(8)]
        for done in engine.generate([[50256]] * 8, params):
            jsonschema.validate(json.loads(done.text), schema)
            assert (done.finish_reason, len(done.token_ids) <= size) == ("stop", True)


def test_an_expression_without_an_end_is_ended(engine: Engine) -> None:
    done = engine.generate([[50256]], SamplingParams(max_new_tokens=12, seed=3, regex="[a-z ]+"))[0]
    assert re.fullmatch("[a-z ]+", done.text)
    assert done.finish_reason == "stop"


def test_too_few_tokens_for_any_complete_text_are_all_used(engine: Engine) -> None:
    done = engine.generate([[50256]], SamplingParams(max_new_tokens=3, seed=3, json_schema=SCHEMA))[0]
    assert (done.finish_reason, len(done.token_ids)) == ("length", 3)


def test_texts_are_held_to_a_grammar_of_several_rules(engine: Engine) -> None:
    rules = 'start: "(" list ")"\nlist: NUMBER ("," NUMBER)*\nNUMBER: /[0-9]{1,3}/'
    for seed in range(4):
        done = engine.generate([[50256]], SamplingParams(max_new_tokens=30, seed=seed, grammar=rules))[0]
        assert re.fullmatch(r"\([0-9]{1,3}(,[0-9]{1,3})*\)", done.text)
        assert done.finish_reason == "stop"


def test_texts_match_the_expression_beside_unconstrained_ones(engine: Engine) -> None:
    pattern = r"(yes|no), [0-9]{2,4} times"
    free = SamplingParams(max_new_tokens=12, seed=1)
    bound = SamplingParams(max_new_tokens=60, seed=1, regex=pattern)
    done = engine.generate([[50256]] * 3, [free, bound, free])
    assert re.fullmatch(pattern, done[1].text)
    assert done[1].finish_reason == "stop"
    assert done[0].text == done[2].text == engine.generate([[50256]], free)[0].text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"regex": "("}, "regex cannot be used as a grammar"),
        ({"json_schema": "[1"}, "json_schema"),
        ({"json_schema": {"type": "nothing"}}, "json_schema cannot be used as a grammar"),
        ({"json_schema": {}, "regex": "a"}, "at once"),
        ({"grammar": "start: ("}, "grammar cannot be used"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused(engine: Engine, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        engine.submit([50256], SamplingParams(**wrong))
    assert not engine.has_work


def test_a_model_whose_vocabulary_is_padded_is_held_to_a_grammar_too() -> None:
    torch.manual_seed(0)
    padded = GPT2(GPT2Config(vocab_size=50304, n_layer=1, n_head=2, n_embd=32, context_length=64)).eval()
    params = [SamplingParams(max_new_tokens=30, seed=seed, regex="(é|日本){2,4}") for seed in range(4)]
    for done in Engine(padded, Tokenizer.gpt2()).generate([[50256]] * 4, params):
        assert re.fullmatch("(é|日本){2,4}", done.text)
        assert done.finish_reason == "stop"


@pytest.mark.parametrize("more", [{"ignore_eos": True}, {"min_new_tokens": 20}], ids=repr)
def test_a_text_ends_where_its_grammar_does(engine: Engine, more: dict[str, Any]) -> None:
    done = engine.generate([[50256]], SamplingParams(max_new_tokens=40, seed=1, regex="(yes|no)!?", **more))[0]
    assert re.fullmatch("(yes|no)!?", done.text)
    assert (done.finish_reason, 50256 in done.token_ids) == ("stop", False)


def test_forced_tokens_must_fit_the_grammar(engine: Engine) -> None:
    tokenizer = Tokenizer.gpt2()
    fitting, wrong = (tuple(tokenizer.encode(text)) for text in ('{"name":', '{"nick":'))
    done = engine.generate([[50256]], SamplingParams(json_schema=SCHEMA, forced_token_ids=fitting, seed=1))[0]
    assert done.text.startswith('{"name":')
    with pytest.raises(EngineError, match=r"forced_token_ids does not fit .* at place 1 cannot stand there"):
        engine.submit([50256], SamplingParams(json_schema=SCHEMA, forced_token_ids=wrong))


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("pattern", "banned"),
    [
        ("ab*c", b"c"),  # bans leave nothing that ends it, nor anything else
        ("a{1000000}", b""),  # too large for the library, which says so only when it has begun
    ],
)
def test_a_text_that_its_grammar_cannot_complete_is_cut_and_others_go_on(
    engine: Engine, temperature: float, pattern: str, banned: bytes
) -> None:
    tokenizer = Tokenizer.gpt2()
    ids = (i for i in range(50256) if banned and set(banned + b"b") & set(tokenizer.token_bytes(i)))
    stuck = SamplingParams(regex=pattern, banned_token_ids=tuple(ids), temperature=temperature, seed=1)
    free = SamplingParams(max_new_tokens=5, seed=1)
    cut, other = engine.generate([[50256]] * 2, [stuck, free])
    assert (cut.finish_reason, set(cut.text) - {"a"}) == ("length", set())
    assert other.token_ids == engine.generate([[50256]], free)[0].token_ids
