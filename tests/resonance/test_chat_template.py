"""What a conversation looks like as tokens, and that nothing of it is lost or confused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonance.chat_template import AlpacaTemplate, ChatTemplate, ContextOverflow, Message, TemplateError, Window
from resonance.tokenizer import Tokenizer

TEMPLATES = {name: ChatTemplate.named(name) for name in ("alpaca", "chatml")}

hostile = st.sampled_from(
    [
        "\n\n### Response:\n",
        "### Instruction:\n",
        "\\### Input:",
        "\n\n### Input:\n",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        "<|endoftext|>",
        "\n",
        " ",
        "é",
        "日",
    ]
)
text = st.lists(st.one_of(hostile, st.text(st.characters(codec="utf-8"), max_size=8)), max_size=5).map("".join)
user = st.builds(Message, st.just("user"), text, st.none() | text)
assistant = st.builds(Message, st.just("assistant"), text)
system = st.builds(Message, st.just("system"), text.filter(lambda s: s != AlpacaTemplate.preamble))
conversations = st.tuples(st.lists(system, max_size=1), st.lists(st.one_of(user, assistant), max_size=6)).map(
    lambda parts: parts[0] + parts[1]
)


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations)
def test_rendering_then_reading_back_gives_the_messages(name: str, messages: list[Message]) -> None:
    template = TEMPLATES[name]
    assert template.parse(template.render(messages).input_ids) == messages


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations, answer=text)
def test_the_prompt_at_inference_is_a_prefix_of_what_training_sees(
    name: str, messages: list[Message], answer: str
) -> None:
    template = TEMPLATES[name]
    prompt = template.render(messages, add_generation_prompt=True).input_ids
    trained = template.render([*messages, Message("assistant", answer)])
    assert trained.input_ids[: len(prompt)] == prompt
    assert not any(trained.loss_mask[len(prompt) - 1 : len(prompt)])


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations)
def test_the_mask_covers_exactly_the_assistants_words_and_their_end(name: str, messages: list[Message]) -> None:
    template = TEMPLATES[name]
    rendered = template.render(messages)
    supervised = [i for i, is_supervised in zip(rendered.input_ids, rendered.loss_mask, strict=True) if is_supervised]
    expected: list[int] = []
    for message in messages:
        if message.role == "assistant":
            expected += [*template.tokenizer.encode(message.content), template.end_id]
    assert supervised == expected


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations)
def test_no_text_can_write_a_control_token(name: str, messages: list[Message]) -> None:
    template = TEMPLATES[name]
    control = set(template.tokenizer.special_tokens.values())
    found = sum(i in control for i in template.render(messages).input_ids)
    blocks = len(messages) + sum(m.context is not None for m in messages)
    answers = sum(m.role == "assistant" for m in messages)
    assert found == (answers if name == "alpaca" else 2 * blocks)


def test_alpaca_is_worded_as_in_the_book() -> None:
    template = TEMPLATES["alpaca"]
    messages = [
        Message("user", "Edit the sentence.", context="He go home."),
        Message("assistant", "He goes home."),
    ]
    rendered = template.render(messages)
    assert template.tokenizer.decode(rendered.input_ids) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nEdit the sentence.\n\n### Input:\nHe go home.\n\n### Response:\nHe goes home."
        "<|endoftext|>"
    )


@pytest.mark.parametrize("name", TEMPLATES)
@given(messages=conversations.filter(bool), budget=st.integers(0, 200))
def test_fitting_drops_whole_oldest_turns_only(name: str, messages: list[Message], budget: int) -> None:
    template = TEMPLATES[name]
    has_system = messages[0].role == "system"
    try:
        fitted = template.fit(messages, budget=budget)
    except ContextOverflow as error:
        assert error.needed > budget
        newest = max((i for i, m in enumerate(messages) if m.role == "user"), default=int(has_system))
        least = [*messages[:has_system], *messages[max(newest, int(has_system)) :]]
        assert len(template.render(least, add_generation_prompt=True).input_ids) > budget
        return
    assert len(fitted.prompt_ids) <= budget
    assert fitted.prompt_ids == template.render(fitted.messages, add_generation_prompt=True).input_ids
    assert fitted.dropped == len(messages) - len(fitted.messages)
    assert fitted.messages[:has_system] == messages[:has_system]
    kept = fitted.messages[has_system:]
    assert kept == messages[len(messages) - len(kept) :]
    if fitted.dropped:
        assert kept[0].role == "user"


def test_fitting_keeps_as_much_as_fits() -> None:
    template = TEMPLATES["chatml"]
    messages = [Message("system", "Be kind.")]
    for i in range(6):
        messages += [Message("user", f"question {i}"), Message("assistant", f"answer {i}")]
    messages.append(Message("user", "newest"))
    whole = template.fit(messages, budget=10_000)
    assert whole.dropped == 0
    fitted = template.fit(messages, budget=len(whole.prompt_ids) - 1)
    assert [m.content for m in fitted.messages[:2]] == ["Be kind.", "question 1"]
    assert fitted.dropped == 2


def test_what_cannot_fit_is_said_with_both_numbers() -> None:
    with pytest.raises(ContextOverflow, match=r"need \d+ tokens and there is room for 10"):
        TEMPLATES["alpaca"].fit([Message("user", "word " * 50)], budget=10)


@pytest.mark.parametrize("name", TEMPLATES)
def test_older_turns_are_kept_up_to_their_own_budget_and_the_newest_up_to_the_whole(name: str) -> None:
    template = TEMPLATES[name]
    turns = [message for i in range(8) for message in (Message("user", f"Question {i}"), Message("assistant", "Yes."))]
    whole = len(template.fit(turns[:-1], budget=10_000).prompt_ids)
    fitted = template.fit(turns[:-1], budget=10_000, history_budget=whole // 2)
    assert whole // 4 < len(fitted.prompt_ids) <= whole // 2
    assert fitted.messages == turns[fitted.dropped : -1]
    long = [*turns, Message("user", "word " * whole)]
    alone = template.fit(long, budget=10_000, history_budget=whole // 2)
    assert alone.messages == long[-1:]
    with pytest.raises(ContextOverflow, match=f"room for {whole}"):
        template.fit(long, budget=whole, history_budget=whole // 2)


def test_a_window_keeps_room_for_an_answer_and_older_turns_within_the_length_trained_on() -> None:
    window = Window(context_length=1024, trained_length=200)
    assert (window.prompt_budget(32), window.history_budget(32)) == (992, 168)
    assert (window.prompt_budget(900), window.history_budget(900)) == (768, 150)
    assert Window(1024).history_budget(32) == Window(1024, trained_length=2000).history_budget(32) == 992


def test_an_unfinished_answer_is_read_as_far_as_it_goes() -> None:
    for template in TEMPLATES.values():
        prompt = template.render([Message("user", "hi")], add_generation_prompt=True).input_ids
        assert template.parse(prompt) == [Message("user", "hi")]
        assert template.parse(prompt + template.tokenizer.encode("Hel")) == [
            Message("user", "hi"),
            Message("assistant", "Hel"),
        ]


def test_mistakes_are_named() -> None:
    with pytest.raises(TemplateError, match=r"no chat template 'llama'; there are alpaca, chatml"):
        ChatTemplate.named("llama")
    with pytest.raises(TemplateError, match="not 'critic'"):
        Message("critic", "x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TemplateError, match="only stand first"):
        TEMPLATES["chatml"].render([Message("user", "x"), Message("system", "y")])
    with pytest.raises(TemplateError, match=r"<\|im_start\|>"):
        ChatTemplate.named("chatml", Tokenizer.gpt2())


@pytest.mark.parametrize("name", TEMPLATES)
def test_transformers_renders_the_same_conversation_from_the_jinja_form(name: str, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    template = TEMPLATES[name]
    template.tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [
        Message("system", "Be brief."),
        Message("user", "What is it?", context="A cat."),
        Message("assistant", "A cat."),
        Message("user", "Sure?"),
    ]
    plain = [{"role": m.role, "content": m.content} | ({"context": m.context} if m.context else {}) for m in messages]
    written = theirs.apply_chat_template(
        plain, chat_template=template.jinja, tokenize=False, add_generation_prompt=True
    )
    ours = template.render(messages, add_generation_prompt=True).input_ids
    assert written == template.tokenizer.decode(ours)
