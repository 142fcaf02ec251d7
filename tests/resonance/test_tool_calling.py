"""Functions, calls and results: rendered, read back, masked, held by a grammar, and split as they are generated."""

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resonance import GPT2, ChatTemplate, Engine, GPT2Config, Message, SamplingParams
from resonance.chat_template import TemplateError
from resonance.engine import EngineError
from resonance.tool_calling import CALL_START, ToolCall, ToolCallParser, ToolError, call_grammar, tool_json

CHATML = ChatTemplate.named("chatml")
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather – as it is.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TIME = {"name": "time"}
TOOLS = (tool_json({"type": "function", "function": WEATHER}), tool_json(TIME))
CONVERSATION = [
    Message("system", "Be brief.", tools=TOOLS),
    Message("user", "Is it warm in Köln and what time is it?"),
    Message("assistant", "I look.", tool_calls=(ToolCall("get_weather", '{"city": "Köln"}'), ToolCall("time"))),
    Message("tool", '{"degrees": 31}'),
    Message("tool", "noon"),
    Message("assistant", "Yes, at noon."),
]

words = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.sampled_from([{"a": "}\n</tool_call>"}, [1, {"b": ["{"]}], '"\\', None, 1.5])
objects = st.dictionaries(words, values, max_size=2).map(json.dumps)
calls = st.builds(ToolCall, st.sampled_from(["f", "get_weather", "A-1"]), objects)


def test_a_conversation_with_tools_is_worded_as_hermes_does() -> None:
    text = CHATML.tokenizer.decode(CHATML.render(CONVERSATION).input_ids)
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n\n")
    assert f"<tools>\n{json.dumps(WEATHER, ensure_ascii=False)}\n{json.dumps(TIME)}\n</tools>\n" in text
    assert text.endswith(
        '<|im_start|>assistant\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n'
        '</tool_call>\n<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call><|im_end|>\n'
        '<|im_start|>tool\n<tool_response>\n{"degrees": 31}\n</tool_response><|im_end|>\n'
        "<|im_start|>tool\n<tool_response>\nnoon\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nYes, at noon.<|im_end|>\n"
    )


@settings(max_examples=20)
@given(content=words, called=st.lists(calls, max_size=3), result=words, system=words)
def test_calls_and_results_are_read_back_as_they_were(
    content: str, called: list[ToolCall], result: str, system: str
) -> None:
    messages = [
        Message("system", system, tools=TOOLS),
        Message("assistant", content, tool_calls=tuple(called)),
        Message("tool", result),
    ]
    rendered = CHATML.render(messages)
    assert CHATML.parse(rendered.input_ids) == messages
    supervised = [i for i, of_answer in zip(rendered.input_ids, rendered.loss_mask, strict=True) if of_answer]
    assert CHATML.tokenizer.decode(supervised[:-1]).count(CALL_START) == len(called)


def test_the_results_of_a_turn_stay_with_its_question() -> None:
    conversation = [*CONVERSATION, Message("user", "And?")]
    budget = len(CHATML.render(conversation, add_generation_prompt=True).input_ids)
    assert CHATML.fit(conversation, budget=budget).dropped == 0
    fitted = CHATML.fit(conversation, budget=budget - 1)
    assert (fitted.messages, fitted.dropped) == ([CONVERSATION[0], Message("user", "And?")], 5)


def test_transformers_renders_the_same_tools_from_the_jinja_form(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    CHATML.tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    function = [{"type": "function", "function": WEATHER}, {"type": "function", "function": TIME}]
    called = [
        {"type": "function", "id": "1", "function": {"name": "get_weather", "arguments": {"city": "Köln"}}},
        {"type": "function", "id": "2", "function": {"name": "time", "arguments": "{}"}},
    ]
    for first in (0, 1):  # with and without a system prompt
        plain = [{"role": m.role, "content": m.content} for m in CONVERSATION[first:]]
        plain[2 - first]["tool_calls"] = called  # pyright: ignore[reportArgumentType]
        written = theirs.apply_chat_template(
            plain, chat_template=CHATML.jinja, tools=function, tokenize=False, add_generation_prompt=True
        )
        system = Message("system", "" if first else "Be brief.", tools=TOOLS)
        ours = CHATML.render([system, *CONVERSATION[1:]], add_generation_prompt=True).input_ids
        assert written == CHATML.tokenizer.decode(ours)


def test_an_earlier_jinja_form_renders_conversations_without_tools_alike() -> None:
    jinja2 = pytest.importorskip("jinja2")
    plain = [{"role": m.role, "content": m.content} for m in CONVERSATION if m.role != "tool"]
    plain[1]["context"] = "A cat."
    now, *former = (jinja2.Template(form).render(messages=plain) for form in (CHATML.jinja, *CHATML.former_jinja))
    assert former == [now]


def test_mistakes_are_named() -> None:
    with pytest.raises(TemplateError, match="alpaca template cannot express tools"):
        ChatTemplate.named("alpaca").render(CONVERSATION)
    with pytest.raises(TemplateError, match="Only a system message can have tools, not the user's"):
        Message("user", "x", tools=TOOLS)
    with pytest.raises(TemplateError, match="Only an assistant's message can have tool calls"):
        Message("tool", "x", tool_calls=(ToolCall("f"),))
    with pytest.raises(ToolError, match="unlike 'a b'"):
        tool_json({"function": {"name": "a b"}})


@pytest.mark.parametrize("content", ["", "I look at <tool", "a\n\nb <b>"])
def test_a_text_is_split_into_content_and_calls_wherever_it_is_cut(content: str) -> None:
    called = (ToolCall("f", '{"a": "}\\n</tool_call>\\"{"}'), ToolCall("g", '{"b": [{}, {"c": "\\\\"}]}'))
    text = CHATML.tokenizer.decode(CHATML.render([Message("assistant", content, tool_calls=called)]).input_ids)
    text = text.removeprefix("<|im_start|>assistant\n").removesuffix("<|im_end|>\n")
    for seed in range(20):
        rng, parser, read, rest = random.Random(seed), ToolCallParser(), "", text
        arguments = dict.fromkeys(range(2), "")
        while rest:
            size = rng.randint(1, 12)
            part, pieces = parser.feed(rest[:size])
            read, rest = read + part, rest[size:]
            for piece in pieces:
                arguments[piece.index] += piece.arguments
        assert (read + parser.finish(), tuple(parser.calls)) == (content, called)
        assert list(arguments.values()) == [call.arguments for call in called]


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=CHATML.tokenizer.vocab_size, context_length=512, n_layer=1, n_head=2, n_embd=16)
    return Engine(GPT2(config), CHATML.tokenizer, max_batch_size=4, eos_id=CHATML.end_id)


def generate(engine: Engine, grammar: str, seed: int, tokens: int, **params: object) -> tuple[str, str]:
    sampling = SamplingParams(
        max_new_tokens=tokens,
        seed=seed,
        grammar=grammar,
        grammar_trigger=CALL_START,
        **params,  # pyright: ignore[reportArgumentType]
    )
    done = engine.generate([[1, 2, 3]], sampling)[0]
    return done.text, done.finish_reason


@pytest.mark.parametrize("several", [True, False])
def test_a_random_model_that_must_call_makes_valid_calls_within_its_tokens(engine: Engine, several: bool) -> None:
    grammar = call_grammar(TOOLS, required=True, several=several)
    for seed, tokens in enumerate((60, 64, 90, 120)):
        parser = ToolCallParser()
        text, reason = generate(engine, grammar, seed, tokens)
        assert (parser.feed(text)[0] + parser.finish(), reason) == ("", "stop")
        assert len(parser.calls) == 1 or (several and parser.calls)
        for call in parser.calls:
            arguments = json.loads(call.arguments)
            assert (
                arguments == {}
                if call.name == "time"
                else jsonschema.validate(arguments, WEATHER["parameters"]) is None
            )


def test_a_text_that_begins_a_call_is_held_to_it_and_one_that_does_not_is_free(engine: Engine) -> None:
    grammar = call_grammar(TOOLS[:1], required=False, several=False)
    free, reason = generate(engine, grammar, 1, 40)
    assert (CALL_START in free, reason) == (False, "length")  # to its last token, whatever comes
    begun = tuple(CHATML.tokenizer.encode("Well <tool_call>"))
    text, reason = generate(engine, grammar, 1, 80, forced_token_ids=begun)
    parser = ToolCallParser()
    assert (parser.feed(text)[0], reason) == ("Well ", "stop")
    jsonschema.validate(json.loads(parser.calls[0].arguments), WEATHER["parameters"])


def test_a_call_begins_only_where_there_is_room_for_it(engine: Engine) -> None:
    grammar = call_grammar(TOOLS[:1], required=False, several=False)
    *begun, last = CHATML.tokenizer.encode("<tool_call>")
    likely = {"forced_token_ids": tuple(begun), "logit_bias": {last: 100.0}}
    assert CALL_START in generate(engine, grammar, 3, 80, **likely)[0]
    text, reason = generate(engine, grammar, 3, 20, **likely)
    assert (CALL_START in text, reason) == (False, "length")


def test_an_answer_in_a_format_or_a_call(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    grammar = call_grammar(
        TOOLS[:1], required=False, several=True, answer_schema=schema | {"additionalProperties": False}
    )
    text, _ = generate(engine, grammar, 0, 60, logit_bias={CHATML.tokenizer.encode("{")[0]: 100.0})
    jsonschema.validate(json.loads(text), schema)


def test_a_trigger_needs_a_grammar() -> None:
    with pytest.raises(EngineError, match="grammar_trigger must be None without a grammar"):
        SamplingParams(grammar_trigger="<")
