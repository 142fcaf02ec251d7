"""What `resonance data` marks in an example is what training reads, predicts and drops."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.example import Example
from data.example_view import ExampleView, view_example, visible
from data.tokenize import IGNORE, tokenize
from resonance.chat_template import TEMPLATES, ChatTemplate, Message

CHATML = ChatTemplate.named("chatml")
ALPACA = ChatTemplate.named("alpaca")


def conversation(*texts: str, system: str | None = None) -> Example:
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], text) for i, text in enumerate(texts)]
    return Example(tuple([Message("system", system)] if system else []) + tuple(messages))


def text_of(view: ExampleView, use: str) -> str:
    return "".join(span.text for span in view.spans if span.use == use)


def test_answers_and_their_end_tokens_are_supervised_and_nothing_else() -> None:
    view = view_example(conversation("Hi?", "Hello.", "Bye?", "Ciao."), CHATML, 100)
    assert text_of(view, "supervised") == "Hello.<|im_end|>Ciao.<|im_end|>"
    assert text_of(view, "dropped") == ""
    assert [span.text for span in view.spans if span.special].count("<|im_end|>") == 4
    assert view.has_end


def test_the_oldest_turns_are_dropped_where_training_drops_them() -> None:
    example = conversation("One one one?", "First.", "Two?", "Second.", system="Be kind.")
    view = view_example(example, CHATML, 25)
    assert "One one one?" in text_of(view, "dropped")
    assert "Be kind." in text_of(view, "context")
    assert text_of(view, "supervised") == "Second.<|im_end|>"


def test_an_answer_that_is_too_long_shows_its_cut_and_lacks_its_end_token() -> None:
    view = view_example(conversation("Count.", "one two three four five six seven"), ALPACA, 36)
    assert text_of(view, "supervised") + text_of(view, "dropped") == "one two three four five six seven<|endoftext|>"
    assert text_of(view, "supervised") and text_of(view, "dropped")
    assert not view.has_end


def test_an_example_that_training_skips_says_why() -> None:
    view = view_example(conversation("A question that is far too long for it", "No."), CHATML, 4)
    assert view.skipped == "answer outside the context window"
    assert (view.tokens, view.supervised) == (0, 0)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=8).filter(lambda texts: len(texts) % 2 == 0),
    system=st.sampled_from([None, "System."]),
    context_length=st.integers(2, 90),
)
def test_the_marked_tokens_are_those_of_training(
    name: str, texts: list[str], system: str | None, context_length: int
) -> None:
    example, template = conversation(*texts, system=system), ChatTemplate.named(name, TOKENIZERS[name])
    view, trained = view_example(example, template, context_length), tokenize([example], template, context_length)
    assert view.tokens == trained.report.tokens
    assert view.supervised == trained.report.supervised_tokens
    labels = [label for label in trained.labels.tolist() if label != IGNORE]
    assert sum(span.tokens for span in view.spans if span.use == "supervised") == len(labels)
    kept = sum(span.tokens for span in view.spans if span.use != "dropped")
    assert kept - view.tokens in (0, 1)
    if len(trained) and view.dropped == 0:
        assert not (trained.report.cut or trained.report.shortened)


TOKENIZERS = {name: ChatTemplate.named(name).tokenizer for name in TEMPLATES}


def test_characters_that_a_terminal_would_obey_are_shown_as_escapes() -> None:
    assert visible("a\x1b[31mb\u200bc\n") == "a\\u{1b}[31mb\\u{200b}c\n"
