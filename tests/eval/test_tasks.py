"""The tasks on a small real model."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import cross_entropy

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Metric
from eval.tasks.instruct import Instruct
from eval.tasks.perplexity import Perplexity
from eval.tasks.samples import Samples
from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint

Models = Callable[[str], EvaluatedModel]
INSTRUCT = Instruct(max_new_tokens=8)


def ignore(_done: int) -> None:
    """For tests that do not watch the progress."""


def long_example() -> Example:
    """One that no context of 96 tokens can hold."""
    return Example((Message("user", "word " * 200), Message("assistant", "no")), family="long")


def value(metric: Metric) -> float:
    return metric.score().value


def test_a_model_that_knows_the_answers_gets_all_of_them(model: Models, examples: list[Example]) -> None:
    result = INSTRUCT.run(model("learned"), examples, ignore)
    assert {name: value(metric) for name, metric in result.metrics.items()} == {
        "exact_match": 1.0,
        "token_f1": 1.0,
        "rouge_l": 1.0,
    }
    assert {name: metric.n for name, metric in result.groups["by_family"].items()} == {"bright": 4, "dull": 4}
    assert [answer.answer for answer in result.answers] == [example.answer for example in examples]


def test_a_model_that_knows_nothing_gets_none(model: Models, examples: list[Example]) -> None:
    assert value(INSTRUCT.run(model("fresh"), examples, ignore).metrics["exact_match"]) == 0.0


def test_every_example_is_reported_to_the_bar_once(model: Models, examples: list[Example]) -> None:
    for task in (INSTRUCT, Perplexity()):
        done: list[int] = []
        task.run(model("fresh"), [*examples, long_example()], done.append)
        assert sum(done) == task.size([*examples, long_example()]) == 9


def test_a_conversation_is_scored_on_its_last_answer(model: Models) -> None:
    turns = (
        Message("user", "What colour is sky?"),
        Message("assistant", "not blue at all"),
        Message("user", "What colour is grass?"),
        Message("assistant", "green"),
    )
    (answer,) = INSTRUCT.run(model("learned"), [Example(turns)], ignore).answers
    assert answer.expected == "green"
    assert "not blue at all" in answer.question


def test_old_turns_make_room_for_the_newest_question(model: Models) -> None:
    old = (Message("user", "word " * 80), Message("assistant", "yes"))
    new = (Message("user", "What colour is grass?"), Message("assistant", "green"))
    result = INSTRUCT.run(model("learned"), [Example((*old, *new))], ignore)
    assert value(result.metrics["exact_match"]) == 1.0
    assert result.answers[0].question == "What colour is grass?"


def test_a_question_that_does_not_fit_counts_as_wrong_and_is_told(model: Models, examples: list[Example]) -> None:
    result = INSTRUCT.run(model("learned"), [long_example(), *examples], ignore)
    assert value(result.metrics["exact_match"]) == pytest.approx(8 / 9)
    assert value(result.groups["by_family"]["long"]) == 0.0
    assert result.notes == ("1 of 9 questions do not fit into 96 tokens and count as wrong.",)


def test_a_split_of_which_nothing_fits_is_an_error(model: Models) -> None:
    for task in (INSTRUCT, Perplexity()):
        with pytest.raises(EvalError, match="None of the 1 test examples"):
            task.run(model("fresh"), [long_example()], ignore)


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
    measured = Perplexity().run(model("fresh"), examples, ignore).metrics["perplexity"]
    assert value(measured) == pytest.approx(math.exp(torch.cat(losses).mean().item()), rel=1e-4)


def test_perplexity_counts_every_answer_of_a_conversation(model: Models) -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
    measured = Perplexity().run(model("fresh"), [Example(turns)], ignore).metrics["perplexity"]
    assert measured.denominators.tolist() == [4.0]  # two words, two end tokens


def test_bits_per_byte_count_the_words_and_not_the_end_token(model: Models, examples: list[Example]) -> None:
    result = Perplexity().run(model("learned"), examples, ignore)
    assert result.metrics["bits_per_byte"].denominators.tolist() == [len(e.answer.encode()) for e in examples]
    assert value(result.metrics["bits_per_byte"]) < 0.1
    assert value(Perplexity().run(model("fresh"), examples, ignore).metrics["bits_per_byte"]) > 1


def test_an_example_that_does_not_fit_is_left_out_of_perplexity(model: Models, examples: list[Example]) -> None:
    alone = Perplexity().run(model("fresh"), examples, ignore)
    beside = Perplexity().run(model("fresh"), [*examples, long_example()], ignore)
    assert value(beside.metrics["perplexity"]) == pytest.approx(value(alone.metrics["perplexity"]), rel=1e-5)
    assert beside.metrics["perplexity"].n == 8
    assert "1 examples do not fit" in beside.notes[0]


def test_samples_are_answers_without_scores(model: Models) -> None:
    result = Samples(prompts=["What colour is snow?", "What colour is coal?"], max_new_tokens=8).run(
        model("learned"), [], ignore
    )
    assert [answer.answer for answer in result.answers] == ["white", "black"]
    assert not result.metrics
