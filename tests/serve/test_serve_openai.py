"""The API as OpenAI's own client sees it."""

import asyncio
from pathlib import Path

import openai
import pytest

from resonance import Checkpoint, Engine, Message, SamplingParams, Tokenizer

HELLO = [{"role": "user", "content": "Hello there"}]
NO_END = {"50256": -100}  # a random model that never ends a text


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.base}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def engine(runs: Path):
    return Engine.from_checkpoint(Checkpoint.find("tiny", runs), dtype="fp32")


@pytest.fixture(scope="module")
def template(runs: Path):
    return Checkpoint.find("tiny", runs).template()


def test_an_answer_at_temperature_0_is_what_the_engine_generates_in_process(client, engine, template):
    done = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, max_tokens=12)
    prompt = template.render([Message("user", "Hello there")], add_generation_prompt=True).input_ids
    expected = engine.generate([prompt], SamplingParams(max_new_tokens=12, temperature=0))[0]
    assert done.choices[0].message.content == expected.text
    assert done.choices[0].finish_reason == expected.finish_reason
    assert done.usage.prompt_tokens == len(prompt)
    assert done.usage.completion_tokens == 12
    assert done.usage.total_tokens == len(prompt) + 12


def test_a_stream_says_the_same_as_a_whole_answer(client):
    asked = {"model": "tiny", "messages": HELLO, "seed": 5, "temperature": 1.0, "max_tokens": 20}
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert not any(reasons[:-1])
    assert chunks[-1].usage == whole.usage
    assert not chunks[-1].choices


def test_without_include_usage_no_chunk_has_usage(client):
    chunks = list(client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=3, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_the_async_client_streams_several_answers_at_the_same_time(server):
    async def ask(client, seed):
        stream = await client.chat.completions.create(
            model="tiny", messages=HELLO, seed=seed, max_tokens=16, stream=True, logit_bias=NO_END
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all(seeds):
        async with openai.AsyncOpenAI(base_url=f"{server.base}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in seeds))

    together = asyncio.run(ask_all([1, 2, 3, 4]))
    alone = [asyncio.run(ask_all([seed]))[0] for seed in (1, 2, 3, 4)]
    assert together == alone
    assert len(set(together)) == 4


def test_a_seed_gives_the_same_text_again_and_another_seed_another(client):
    def text(seed):
        done = client.chat.completions.create(model="tiny", messages=HELLO, seed=seed, max_tokens=12, temperature=1)
        return done.choices[0].message.content

    assert text(-3) == text(-3)
    assert text(-3) != text(4)


def test_n_gives_so_many_different_answers_and_counts_them_all(client):
    done = client.chat.completions.create(
        model="tiny", messages=HELLO, n=3, seed=1, max_tokens=6, temperature=1, logit_bias=NO_END
    )
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in done.choices}) == 3
    assert done.usage.completion_tokens == 18


def test_a_stop_string_ends_the_text_before_it_and_is_never_seen_in_a_stream(client):
    asked = {"model": "tiny", "messages": HELLO, "seed": 9, "max_tokens": 30, "logit_bias": NO_END}
    text = client.chat.completions.create(**asked).choices[0].message.content
    stop = text[20:26]
    before = text[: text.index(stop)]
    done = client.chat.completions.create(**asked, stop=stop)
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (before, "stop")
    streamed = ""
    for chunk in client.chat.completions.create(**asked, stop=[stop, "never said"], stream=True):
        streamed += chunk.choices[0].delta.content or ""
        assert before.startswith(streamed)
    assert streamed == before


def test_logprobs_are_the_models_own_and_cover_exactly_the_text(client):
    done = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=5, logprobs=True, top_logprobs=3
    )
    content = done.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).decode() == done.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token
        assert token.logprob == token.top_logprobs[0].logprob < 0


def test_streamed_logprobs_are_those_of_the_whole_answer(client):
    asked = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 5, "logprobs": True, "top_logprobs": 1}
    whole = client.chat.completions.create(**asked).choices[0].logprobs.content
    streamed = [
        token
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert streamed == whole


def test_logit_bias_forbids_a_token(client):
    first = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=1, logprobs=True
    ).choices[0]
    token = Tokenizer.gpt2().encode(first.message.content)[0]
    other = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=1, logit_bias={str(token): -100}
    ).choices[0]
    assert other.message.content != first.message.content


def test_max_completion_tokens_is_max_tokens(client):
    done = client.chat.completions.create(model="tiny", messages=HELLO, max_completion_tokens=3, logit_bias=NO_END)
    assert (done.usage.completion_tokens, done.choices[0].finish_reason) == (3, "length")


def test_text_parts_and_the_developer_role_are_the_same_as_plain_messages(client):
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
    parts = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]},
    ]
    texts = {
        client.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=8)
        .choices[0]
        .message.content
        for messages in (plain, parts)
    }
    assert len(texts) == 1


def test_old_turns_are_dropped_when_the_window_is_full_and_usage_says_so(client):
    old = [{"role": role, "content": "word " * 1200} for _ in range(5) for role in ("user", "assistant")]
    done = client.chat.completions.create(model="tiny", messages=[*old, *HELLO], max_tokens=4)
    assert done.usage.messages_dropped == 4
    assert done.usage.messages_kept == 7
    assert done.usage.prompt_tokens <= 8192


def test_models_lists_every_checkpoint_with_its_scores_and_each_answers(client):
    models = client.models.list().data
    assert [model.id for model in models] == ["tiny", "other"]
    assert models[0].resonance["template"] == "alpaca"
    assert models[0].resonance["scores"]["instruct"]["exact_match"]["value"] == 0.5
    assert client.models.retrieve("other").id == "other"
    answers = {
        client.chat.completions.create(model=name, messages=HELLO, temperature=0, max_tokens=8)
        .choices[0]
        .message.content
        for name in ("tiny", "other")
    }
    assert len(answers) == 2


def test_an_unknown_model_is_a_404_that_names_those_there_are(client):
    with pytest.raises(openai.NotFoundError, match="tiny, other"):
        client.chat.completions.create(model="gpt-9", messages=HELLO)


def test_a_refused_field_is_named(client):
    with pytest.raises(openai.BadRequestError, match="functions is not supported"):
        client.chat.completions.create(model="tiny", messages=HELLO, functions=[{"name": "f"}])


def test_raw_completions_echo_their_prompt_with_the_probabilities_of_the_model(client, engine):
    ids = Tokenizer.gpt2().encode("The capital of France is")
    done = client.completions.create(model="tiny", prompt=ids, max_tokens=2, temperature=0, logprobs=2, echo=True)
    expected = engine.prompt_logprobs(ids, 2)
    choice = done.choices[0]
    assert choice.text.startswith("The capital of France is")
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.token_logprobs[0] is None
    got = choice.logprobs.token_logprobs[1 : len(ids)]
    assert got == pytest.approx([token.logprob for token in expected], abs=1e-4)
    assert max(choice.logprobs.top_logprobs[1].values()) == pytest.approx(expected[0].top_logprobs[0][1], abs=1e-4)
    assert choice.logprobs.text_offset[:3] == [0, 3, 11]


def test_a_prompt_can_be_scored_without_generating_anything(client):
    done = client.completions.create(model="tiny", prompt="One two three", max_tokens=0, logprobs=1, echo=True)
    assert done.choices[0].text == "One two three"
    assert len(done.choices[0].logprobs.tokens) == 3
    assert done.usage.completion_tokens == 0


def test_several_prompts_are_continued_in_their_order(client):
    prompts = ["One two", "Three four", "Five six"]
    together = client.completions.create(model="tiny", prompt=prompts, max_tokens=5, temperature=0, n=1)
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    alone = [client.completions.create(model="tiny", prompt=p, max_tokens=5, temperature=0) for p in prompts]
    assert [c.text for c in together.choices] == [done.choices[0].text for done in alone]


def test_raw_completions_stream(client):
    asked = {"model": "tiny", "prompt": "Once upon a", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked).choices[0]
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.text
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason
