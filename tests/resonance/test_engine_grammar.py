"""Constrained output: whatever the model would say, the text matches."""

import json
import re

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
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused(engine: Engine, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        engine.submit([50256], SamplingParams(**wrong))  # type: ignore[arg-type]
    assert not engine.has_work
