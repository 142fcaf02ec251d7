"""Only the assistant's text is supervised; examples without anything to train on are counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.example import Example
from data.tokenize import (
    EMPTY_ANSWER,
    EMPTY_QUESTION,
    IGNORE,
    NO_ANSWER,
    TRUNCATED_AWAY,
    tokenize,
)
from resonance.chat_template import ChatTemplate, Message

TEMPLATES = {name: ChatTemplate.named(name) for name in ("alpaca", "chatml")}
WINDOW = 512


def turn(question, answer, context=None):
    return (Message("user", question, context), Message("assistant", answer))


def parts(data, i):
    here = slice(data.offsets[i], data.offsets[i + 1])
    return data.input_ids[here].tolist(), data.labels[here].tolist()


def supervised(data, i):
    return [label for label in parts(data, i)[1] if label != IGNORE]


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)
conversations = st.lists(st.tuples(words, words), min_size=1, max_size=4).map(
    lambda turns: Example(tuple(message for question, answer in turns for message in turn(question, answer)))
)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(examples=st.lists(conversations, min_size=1, max_size=4))
def test_labels_are_the_rendered_tokens_that_follow_and_are_supervised(name, examples):
    data = tokenize(examples, TEMPLATES[name], 4096)
    assert len(data) == len(examples)
    for i, example in enumerate(examples):
        rendered = TEMPLATES[name].render(example.messages)
        inputs, labels = parts(data, i)
        assert inputs == rendered.input_ids[: len(inputs)]
        assert (
            labels
            == [
                token if mask else IGNORE
                for token, mask in zip(rendered.input_ids[1:], rendered.loss_mask[1:], strict=True)
            ][: len(labels)]
        )
        assert len(supervised(data, i)) == sum(rendered.loss_mask)
        assert labels[-1] != IGNORE


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_supervised_reads_as_the_answers(name):
    template = TEMPLATES[name]
    data = tokenize([Example(turn("Who are you?", "I am Resonance.") + turn("And I?", "Ann."))], template, WINDOW)
    text = template.tokenizer.decode([label for label in supervised(data, 0) if label != template.end_id])
    assert text == "I am Resonance.Ann."
    assert supervised(data, 0).count(template.end_id) == 2


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_oldest_turns_go_first_and_the_system_message_stays(name):
    template = TEMPLATES[name]
    system = Message("system", "Be brief.")
    newest = turn("What is new?", "This.")
    full = Example((system, *turn("What is old? " * 20, "That."), *newest))
    room = len(template.render((system, *newest)).input_ids)
    data = tokenize([full], template, room)
    assert parts(data, 0)[0] == template.render((system, *newest)).input_ids[: len(parts(data, 0)[0])]
    assert (data.report.shortened, data.report.cut) == (1, 0)


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_that_does_not_fit_is_cut_at_the_end(name):
    data = tokenize([Example(turn("Count.", "one two three four " * 100))], TEMPLATES[name], 64)
    assert data.lengths.tolist() == [64]
    assert (data.report.used, data.report.cut) == (1, 1)


def test_examples_that_would_train_on_nothing_are_counted_by_reason():
    examples = [
        Example(turn("Who?", "Ann.")),
        Example(turn("Who?", " \n")),
        Example(turn("Who?", "")),
        Example(turn("", "Ann.")),
        Example((Message("user", "Who?"),)),
        Example(()),
        Example(turn("word " * 600, "Ann.")),
    ]
    report = tokenize(examples, TEMPLATES["chatml"], WINDOW).report
    assert (report.examples, report.used) == (7, 1)
    assert report.skipped == {EMPTY_ANSWER: 2, EMPTY_QUESTION: 1, NO_ANSWER: 2, TRUNCATED_AWAY: 1}
    assert report.supervised_tokens == 3  # "Ann", "." and the end
    for message in ("1 of 7 examples", f"2 skipped: {EMPTY_ANSWER}", f"1 skipped: {TRUNCATED_AWAY}"):
        assert message in str(report)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(example=conversations, window=st.integers(8, 64))
def test_no_example_is_longer_than_the_window_and_each_has_something_to_learn(name, example, window):
    data = tokenize([example], TEMPLATES[name], window)
    assert data.report.used + sum(data.report.skipped.values()) == 1
    assert all(length <= window for length in data.lengths)
    for i in range(len(data)):
        assert supervised(data, i)


def test_nothing_gives_empty_arrays():
    data = tokenize([], TEMPLATES["alpaca"], WINDOW)
    assert len(data) == 0
    assert data.input_ids.dtype == data.labels.dtype == np.int32
