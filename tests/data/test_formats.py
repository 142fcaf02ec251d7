"""Columns determine the format of instruction data, and errors name the row."""

import pytest

from data import DataError
from data.example import Example
from data.formats import read_rows, recognise
from resonance.chat_template import Message


def read(*rows):
    return read_all(*rows)[0]


def read_all(*rows):
    examples = []
    _, unusable = read_rows(
        rows, list(dict.fromkeys(column for row in rows for column in row)), "some.json", examples.append
    )
    return examples, unusable


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
    message = str(caught.value)
    assert message.startswith("some.json: The data has the columns question, reply")
    for wanted in ("instruction output", "instruction response", "messages", "conversations", "prompt completion"):
        assert wanted in message


def test_further_columns_do_no_harm():
    assert recognise(["id", "prompt", "completion", "source"]).name == "prompt/completion"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "Who?", "output": ["Ann"]}, "row 2: `output` is ['Ann']; it must be a text"),
        ({"instruction": {"a": 1}, "output": "Ann"}, "row 2: `instruction` is {'a': 1}; it must be a text"),
    ],
)
def test_a_bad_row_is_named(row, message):
    with pytest.raises(DataError) as caught:
        read({"instruction": "Who?", "output": "Ann"}, row)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("turns", "message"),
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
def test_a_bad_turn_is_named(turns, message):
    with pytest.raises(DataError) as caught:
        read({"messages": turns})
    assert message in str(caught.value)
    assert "some.json, row 1" in str(caught.value)


def test_rows_without_a_text_are_left_out_with_their_numbers_and_the_reason():
    examples, unusable = read_all(
        {"instruction": "Who?", "output": "Ann."},
        {"instruction": "Who?", "output": None},
        {"instruction": None, "output": "Ann."},
        {"instruction": "Who?"},
        {"instruction": "Who?", "output": float("nan")},
        {"instruction": "Where?", "output": ""},
    )
    assert [(example.row, example.answer) for example in examples] == [(1, "Ann."), (6, "")]
    assert unusable == {"`output` is null": [2, 5], "`instruction` is null": [3], "`output` is missing": [4]}


def test_a_turn_without_content_makes_its_conversation_unusable():
    _, unusable = read_all(
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}]},
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": None},
    )
    assert unusable == {"the assistant's `content` is null": [2], "`messages` is null": [3]}


def test_a_row_of_another_format_is_read_in_that_format_and_named_where_there_is_none():
    examples, unusable = read_all(
        {"instruction": "Who?", "output": "Ann."},
        {"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]},
        {"prompt": "When?", "completion": "Now."},
        {"question": "Why?", "reply": "Thus."},
    )
    assert [example.answer for example in examples] == ["Ann.", "Here.", "Now."]
    assert unusable == {"another format, with the columns question, reply": [4]}


def test_a_turn_with_the_keys_of_another_format_is_named():
    with pytest.raises(
        DataError, match=r"row 1: turn 1 of `messages` has no `value` to its `from`; it has `from`, `co"
    ):
        read({"messages": [{"from": "human", "content": "Who?"}]})


def test_when_no_row_can_be_used_the_reasons_are_told():
    with pytest.raises(DataError, match=r"no row that can be used: `output` is null \(rows 1, 2, 3, 4, 5 and 4 more\)"):
        read(*[{"instruction": "Who?", "output": None}] * 9)


def test_half_a_character_is_named_by_its_row():
    with pytest.raises(DataError, match=r"row 1: `output` holds half a character"):
        read({"instruction": "Who?", "output": "\ud83d"})
