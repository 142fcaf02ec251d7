"""The task `constraints` on small real models."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from data.example import Example
from eval.constraints.prompts import make_prompts
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import DOES_NOT_FIT
from eval.tasks.constraints import Constraints
from resonance.chat_template import Message, Window
from tests.eval.conftest import run_task, values

Models = Callable[[str], EvaluatedModel]
TASK = Constraints(basic=6, single=6, combined=4, max_new_tokens=8, seed=0)
ANSWERS = {
    "Write hat in capital letters.": "HAT",
    "Put spaces between the letters of hat.": "**h a t**",
    "Put in alphabetical order: ball oil egg": "ball oil egg",
}


def test_answers_that_follow_are_counted_strictly_and_loosely(
    taught: Callable[[list[Example]], EvaluatedModel],
) -> None:
    model = taught([Example((Message("user", q), Message("assistant", a))) for q, a in ANSWERS.items()])
    task = Constraints(basic=3, single=0, combined=0, max_new_tokens=8, seed=0)
    assert [prompt.text for prompt in make_prompts(basic=3, single=0, combined=0, seed=0)] == list(ANSWERS)
    result = run_task(task, model, [])
    assert values(result) == {
        "prompt_strict": pytest.approx(1 / 3),
        "prompt_loose": pytest.approx(2 / 3),
        "instruction_strict": pytest.approx(2 / 4),
        "instruction_loose": pytest.approx(3 / 4),
    }
    assert values(result, "by_family") == {"basic": pytest.approx(1 / 3)}
    first = result.records[0]
    assert (first.answer, first.correct, first.group) == ("HAT", True, "basic")
    assert [each["strict"] for each in json.loads(json.dumps(first.details))["constraints"]] == [True, True]


def test_the_items_are_the_same_each_time_and_need_no_data(model: Models) -> None:
    first, again = TASK.items([]), TASK.items([])
    assert [item.id for item in first] == [item.id for item in again]
    assert len({item.id for item in first}) == len(first) == 16
    records = run_task(TASK, model("fresh"), []).records
    assert [record.item for record in records] == [item.id for item in first]
    assert {record.group for record in records} == {"basic", "single", "combined"}


def test_a_prompt_that_does_not_fit_is_not_followed_and_told(model: Models) -> None:
    short = replace(model("fresh"), window=Window(60))
    result = run_task(TASK, short, [])
    missing = [record for record in result.records if record.details.get(DOES_NOT_FIT)]
    assert missing and all(record.observations["prompt_loose"] == (0.0, 1.0) for record in missing)
    assert result.notes == (f"{len(missing)} of 16 prompts do not fit into the context and count as not followed.",)
