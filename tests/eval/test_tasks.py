"""The tasks on a small real model."""

import hashlib
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from data.example import Example
from eval import EvalError
from eval.evaluate import evaluate
from eval.evaluated_model import EvaluatedModel
from eval.tasks.instruct import Instruct
from eval.tasks.perplexity import Perplexity
from eval.tasks.samples import Samples
from eval.tasks.turns import Turns
from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint
from tests.eval.conftest import run_task, values

Models = Callable[[str], EvaluatedModel]
INSTRUCT = Instruct(max_new_tokens=8)


def long_example() -> Example:
    """One that no context of 96 tokens can hold."""
    return Example((Message("user", "word " * 200), Message("assistant", "no")), family="long")


def test_a_model_that_knows_the_answers_gets_all_of_them(model: Models, examples: list[Example]) -> None:
    result = run_task(INSTRUCT, model("learned"), examples)
    assert values(result) == {"exact_match": 1.0, "token_f1": 1.0, "rouge_l": 1.0, "chrf": 1.0}
    families = {name: metric.n for (group, name), metric in result.metrics().items() if group == "by_family"}
    assert families == {"bright": 4, "dull": 4}
    assert [record.answer for record in result.records] == [example.answer for example in examples]


def test_a_model_that_knows_nothing_gets_none(model: Models, examples: list[Example]) -> None:
    assert values(run_task(INSTRUCT, model("fresh"), examples))["exact_match"] == 0.0


def test_every_item_is_reported_to_the_bar_once(model: Models, examples: list[Example]) -> None:
    sizes: list[int] = []
    done: list[int] = []

    def add_progress(_description: str, size: int) -> Callable[[int], None]:
        sizes.append(size)
        return done.append

    evaluate(model("fresh"), {"a": INSTRUCT, "b": Perplexity()}, [*examples, long_example()], add_progress)
    assert sizes == [9, 9]
    assert sum(done) == 18


def test_every_record_says_what_was_asked_and_pairs_with_the_other_models(
    model: Models, examples: list[Example]
) -> None:
    learned, fresh = (run_task(INSTRUCT, model(name), examples).records for name in ("learned", "fresh"))
    assert [record.item for record in learned] == [record.item for record in fresh]
    assert len({record.item for record in learned}) == 8
    template = model("learned").template
    for record, example in zip(learned, examples, strict=True):
        ids = template.render(example.prompt, add_generation_prompt=True).input_ids
        assert record.prompt_sha256 == hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()
        assert (record.expected, record.correct, record.group) == (example.answer, True, example.family)


def test_equal_examples_are_items_of_their_own(model: Models, examples: list[Example]) -> None:
    result = run_task(INSTRUCT, model("learned"), [examples[0], examples[0]])
    assert len({record.item for record in result.records}) == 2


def test_a_conversation_is_scored_on_its_last_answer(model: Models) -> None:
    turns = (
        Message("user", "What colour is sky?"),
        Message("assistant", "not blue at all"),
        Message("user", "What colour is grass?"),
        Message("assistant", "green"),
    )
    (answer,) = run_task(INSTRUCT, model("learned"), [Example(turns)]).records
    assert answer.expected == "green"
    assert "not blue at all" in answer.question


def test_old_turns_make_room_for_the_newest_question(model: Models) -> None:
    old = (Message("user", "word " * 80), Message("assistant", "yes"))
    new = (Message("user", "What colour is grass?"), Message("assistant", "green"))
    result = run_task(INSTRUCT, model("learned"), [Example((*old, *new))])
    assert values(result)["exact_match"] == 1.0
    assert result.records[0].question == "What colour is grass?"


def test_a_question_that_does_not_fit_counts_as_wrong_and_is_told(model: Models, examples: list[Example]) -> None:
    result = run_task(INSTRUCT, model("learned"), [long_example(), *examples])
    assert values(result)["exact_match"] == pytest.approx(8 / 9)
    assert values(result, "by_family")["long"] == 0.0
    assert result.notes == ("1 of 9 questions do not fit into the context and count as wrong.",)


def test_a_split_of_which_nothing_fits_is_an_error(model: Models) -> None:
    results = evaluate(model("fresh"), {"a": INSTRUCT, "b": Perplexity()}, [long_example()]).results
    for result in results.values():
        assert "None of the 1 test examples fits into a context of 96 tokens" in str(result.error)


def test_a_task_that_cannot_run_says_why_and_the_rest_goes_on(model: Models, examples: list[Example]) -> None:
    tasks = {"turns": Turns(turns=(0,), questions=4, max_new_tokens=4, seed=0), "perplexity": Perplexity()}
    results = evaluate(model("fresh"), tasks, examples[:1]).results
    assert "1 of 1 test examples have one turn and no context, and at least 2 are needed" in str(results["turns"].error)
    assert not results["turns"].records
    assert results["perplexity"].error is None
    assert len(results["perplexity"].records) == 1


def test_perplexity_is_that_of_the_training_loss(
    model: Models, examples: list[Example], runs: dict[str, Checkpoint]
) -> None:
    fresh, template = runs["fresh"].load_model(), runs["fresh"].template()
    losses: list[torch.Tensor] = []
    for example in examples:
        rendered = template.render(example.messages)
        ids, mask = torch.tensor([rendered.input_ids]), torch.tensor([rendered.loss_mask])
        with torch.no_grad():
            logits = fresh.logits(fresh(ids[:, :-1], return_hidden_states=True)[mask[:, 1:]])
        losses.append(cross_entropy(logits, ids[:, 1:][mask[:, 1:]], reduction="none"))
    measured = values(run_task(Perplexity(), model("fresh"), examples))["perplexity"]
    assert measured == pytest.approx(math.exp(torch.cat(losses).mean().item()), rel=1e-4)


def test_perplexity_counts_every_answer_of_a_conversation(model: Models) -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
    (record,) = run_task(Perplexity(), model("fresh"), [Example(turns)]).records
    assert record.observations["perplexity"][1] == 4.0  # two words, two end tokens


def test_bits_per_byte_count_the_words_and_not_the_end_token(model: Models, examples: list[Example]) -> None:
    result = run_task(Perplexity(), model("learned"), examples)
    counted = [record.observations["bits_per_byte"][1] for record in result.records]
    assert counted == [len(example.answer.encode()) for example in examples]
    assert values(result)["bits_per_byte"] < 0.1
    assert values(run_task(Perplexity(), model("fresh"), examples))["bits_per_byte"] > 1


def test_an_example_that_does_not_fit_is_left_out_of_perplexity(model: Models, examples: list[Example]) -> None:
    alone = run_task(Perplexity(), model("fresh"), examples)
    beside = run_task(Perplexity(), model("fresh"), [*examples, long_example()])
    assert values(beside)["perplexity"] == pytest.approx(values(alone)["perplexity"], rel=1e-5)
    assert beside.metrics()[None, "perplexity"].n == 8
    assert "1 examples do not fit" in beside.notes[0]


def test_samples_are_answers_without_scores(model: Models) -> None:
    task = Samples(prompts=["What colour is snow?", "What colour is coal?"], max_new_tokens=8)
    result = run_task(task, model("learned"), [])
    assert [record.answer for record in result.records] == ["white", "black"]
    assert not result.metrics()


def test_sampled_answers_are_asked_once_a_seed_and_clustered_by_question(
    model: Models, examples: list[Example]
) -> None:
    task = Instruct(max_new_tokens=4, temperature=2.0, seeds=(0, 1, 2))
    result, again = (run_task(task, model("learned"), examples) for _ in range(2))
    assert result.records == again.records
    assert len({record.item for record in result.records}) == 24
    assert len({record.cluster for record in result.records}) == 8
    assert any(
        len({r.answer for r in result.records if r.cluster == c}) > 1 for c in {r.cluster for r in result.records}
    )
    match = result.metrics()[None, "exact_match"]
    assert (match.n, match.clustered) == (24, True)
    one_seed = run_task(Instruct(max_new_tokens=4, temperature=2.0, seeds=(1,)), model("learned"), examples)
    assert [r.answer for r in one_seed.records] == [r.answer for r in result.records[8:16]]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seeds": (0, 1)}, "seeds=[0, 1] has no effect on greedy answers"),
        ({"temperature": 0.5, "seeds": (1, 1)}, "different whole numbers, and at least one, not [1, 1]"),
        ({"temperature": 0.5, "seeds": ()}, "different whole numbers, and at least one, not []"),
        ({"temperature": -1.0}, "temperature must be 0 (greedy) or more, not -1"),
    ],
)
def test_seeds_that_change_nothing_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EvalError, match=re.escape(sentence)):
        Instruct(max_new_tokens=4, **settings)
