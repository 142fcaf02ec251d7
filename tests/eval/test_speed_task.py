"""The task `speed` on a small real model."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pytest

from eval.evaluate import Evaluation, compare
from eval.evaluated_model import EvaluatedModel
from eval.tasks.speed import Speed
from resonance.chat_template import Window
from tests.eval.conftest import run_task, values

Models = Callable[[str], EvaluatedModel]
TASK = Speed(prompt_tokens=24, new_tokens=12, rounds=3, repeats=3, seed=0)
NAMES = ["decode_tokens_per_s", "batch_decode_tokens_per_s", "prefill_tokens_per_s", "first_token_ms"]


def test_a_round_observes_the_median_of_its_measurements(model: Models) -> None:
    result = run_task(TASK, model("fresh"), [])
    assert list(values(result)) == NAMES
    assert len(result.records) == 3
    for record in result.records:
        measured = record.details["measurements"]
        assert isinstance(measured, dict)
        assert {name: value for name, (value, _) in record.observations.items()} == {
            name: median(each) for name, each in measured.items()
        }
        assert all(len(each) == 3 and min(each) > 0 for each in measured.values())
        assert (record.details["prompt_tokens"], record.details["batch_size"]) == (24, 3)
    assert "medians of 3 measurements in each of 3 rounds" in result.notes[0]


def test_the_counts_of_tokens_are_those_that_the_engine_computed(model: Models) -> None:
    fresh = model("fresh")
    before = fresh.engine.stats()
    run_task(Speed(prompt_tokens=24, new_tokens=12, rounds=1, repeats=2, seed=0), fresh, [])
    after = fresh.engine.stats()
    warm_up, decoded, first = 3 * 8, 2 * (1 + 3) * 12, 2 * (3 + 1)
    assert after.generated_tokens - before.generated_tokens == warm_up + decoded + first
    assert after.cached_tokens == before.cached_tokens  # every prompt was new


def test_speeds_of_two_models_stand_side_by_side_without_a_test(model: Models) -> None:
    both = [Evaluation(name, "fp32", {"speed": run_task(TASK, model(name), [])}) for name in ("fresh", "learned")]
    rows = compare(both)
    assert [row.name for row in rows] == NAMES
    for row in rows:
        assert all(score is not None and score.n == 3 for score in row.scores)
        assert row.differences == (None,)
    assert [row.higher_is_better for row in rows] == [True, True, True, False]


@pytest.mark.parametrize(("context", "prompt", "new"), [(96, 24, 12), (30, 12, 6), (8, 3, 2)])
def test_both_lengths_shrink_to_fit_a_short_context(model: Models, context: int, prompt: int, new: int) -> None:
    short = replace(model("fresh"), window=Window(context))
    [record] = run_task(replace(TASK, rounds=1, repeats=1), short, []).records
    assert (record.details["prompt_tokens"], record.details["new_tokens"]) == (prompt, new)
