"""The same questions late in a conversation, put to a small real model."""

from collections.abc import Callable
from dataclasses import replace

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.tasks.turns import Turns
from resonance.chat_template import Message, Window
from tests.eval.conftest import run_task, values

Models = Callable[[str], EvaluatedModel]
TASK = Turns(turns=(0, 2, 40), questions=6, max_new_tokens=4, seed=0)


def scores(task: Turns, model: EvaluatedModel, examples: list[Example]) -> dict[str, float]:
    return values(run_task(task, model, examples))


def test_a_model_that_knows_single_turns_only_answers_at_first_and_no_longer_later(
    model: Models, examples: list[Example]
) -> None:
    found = scores(TASK, model("learned"), examples)
    assert list(found) == ["after_0", "after_2", "after_40"]
    assert found["after_0"] == 1.0
    assert found["after_40"] < 1.0


def test_history_is_kept_as_far_as_the_server_keeps_it(model: Models, examples: list[Example]) -> None:
    """Trained on single turns and told so, it is asked without the older ones, and knows all its answers."""
    learned = model("learned")
    alone = max(
        len(learned.template.render(example.prompt, add_generation_prompt=True).input_ids) for example in examples
    )
    short = replace(learned, window=Window(learned.context_length, trained_length=alone + TASK.max_new_tokens + 1))
    assert scores(TASK, short, examples) == {"after_0": 1.0, "after_2": 1.0, "after_40": 1.0}


def test_the_same_questions_are_asked_after_each_number_of_turns(model: Models, examples: list[Example]) -> None:
    records = run_task(TASK, model("fresh"), examples).records
    asked = [[r.question for r in records if r.group == f"after {count} turns"] for count in (0, 2, 40)]
    assert asked[0] == asked[1] == asked[2]
    assert len(set(asked[0])) == 6


def test_conversations_of_several_turns_and_those_with_a_text_are_not_asked(examples: list[Example]) -> None:
    longer = Example((*examples[0].messages, *examples[1].messages))
    reading = Example((Message("user", "What colour is it?", "It is red."), Message("assistant", "red")))
    questions = {item.text for item in TASK.items([longer, reading, *examples[:2]])}
    assert questions == {f"{example.prompt[-1].content}\n{example.answer}" for example in examples[:2]}
