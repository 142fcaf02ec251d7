"""Instruction data of other people's forms is recognised by its columns, and what is wrong is told by its row."""

import pytest

from data.errors import DataError
from data.examples import Example
from data.formats import read_rows, recognise
from resonance.chat import Message


def read(*rows):
    return read_rows(rows, list(rows[0]), "some.json")


def user(content, context=None):
    return Message("user", content, context)


def assistant(content):
    return Message("assistant", content)


def test_alpaca_columns_become_a_question_with_its_context_and_an_answer():
    examples = read(
        {"instruction": "Sum up.", "input": "A long text.", "output": "Short."},
        {"instruction": "Say hello.", "input": "", "output": "Hello."},
        {"instruction": "Say bye.", "input": None, "output": "Bye."},
    )
    assert [example.messages for example in examples] == [
        (user("Sum up.", "A long text."), assistant("Short.")),
        (user("Say hello."), assistant("Hello.")),
        (user("Say bye."), assistant("Bye.")),
    ]


def test_alpaca_does_not_need_an_input_column():
    (example,) = read({"instruction": "Say hello.", "output": "Hello."})
    assert example.messages == (user("Say hello."), assistant("Hello."))


def test_dolly_columns_are_mapped_and_its_category_is_the_family():
    (example,) = read({"instruction": "Who?", "context": "It was Ann.", "response": "Ann.", "category": "closed_qa"})
    assert example == Example((user("Who?", "It was Ann."), assistant("Ann.")), "closed_qa")


def test_messages_keep_roles_turns_and_contexts():
    (example,) = read(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Who?", "context": "It was Ann."},
                {"role": "assistant", "content": "Ann."},
                {"role": "user", "content": "Sure?", "context": None},
                {"role": "assistant", "content": "Yes."},
            ]
        }
    )
    assert example.messages == (
        Message("system", "Be brief."),
        user("Who?", "It was Ann."),
        assistant("Ann."),
        user("Sure?"),
        assistant("Yes."),
    )


def test_sharegpt_turns_run_from_the_first_question_to_the_last_answer():
    (example,) = read(
        {
            "conversations": [
                {"from": "gpt", "value": "Welcome."},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello."},
                {"from": "human", "value": "Thanks"},
            ]
        }
    )
    assert example.messages == (user("Hi"), assistant("Hello."))


def test_prompt_and_completion_become_one_turn():
    (example,) = read({"prompt": "2 + 2 =", "completion": "4"})
    assert example.messages == (user("2 + 2 ="), assistant("4"))


def test_a_number_as_an_answer_is_read_as_text():
    (example,) = read({"instruction": "2 + 2", "output": 4})
    assert example.answer == "4"


def test_unknown_columns_are_refused_with_those_found_and_those_wanted():
    with pytest.raises(DataError) as caught:
        read({"question": "Who?", "reply": "Ann."})
    told = str(caught.value)
    assert told.startswith("some.json: The data has the columns question, reply")
    for wanted in ("instruction output", "instruction response", "messages", "conversations", "prompt completion"):
        assert wanted in told


def test_further_columns_do_no_harm():
    assert recognise(["id", "prompt", "completion", "source"]).name == "prompt/completion"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"instruction": "Who?", "output": ["Ann"]}, "row 2: `output` is ['Ann']; it must be a text"),
        ({"instruction": {"a": 1}, "output": "Ann"}, "row 2: `instruction` is {'a': 1}; it must be a text"),
    ],
)
def test_a_bad_row_is_named(row, told):
    with pytest.raises(DataError) as caught:
        read({"instruction": "Who?", "output": "Ann"}, row)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ("Hello", "`messages` is 'Hello'; it must be a list of turns"),
        ([{"role": "judge", "content": "Yes."}], "turn 1 of `messages` has the role 'judge'"),
        (["Hello"], "turn 1 of `messages` is 'Hello'"),
        (
            [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}],
            "turn 2 of `messages` is a system message",
        ),
    ],
)
def test_a_bad_turn_is_named(turns, told):
    with pytest.raises(DataError) as caught:
        read({"messages": turns})
    assert told in str(caught.value)
    assert "some.json, row 1" in str(caught.value)
