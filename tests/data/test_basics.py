"""The built-in instruction data is deterministic and consistent, and its held-out splits are disjoint."""

import random
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from data import DataError
from data.basics import FAMILIES, BasicsSettings, generate
from data.basics.generator import CHAIN, hold_out
from data.basics.tables import OPEN_PLACES
from data.example import Example, fingerprint
from resonance.chat_template import Message

SETTINGS = BasicsSettings(train_size=6_000)


@pytest.fixture(scope="module")
def splits():
    return generate(SETTINGS)


def spoken(example: Example) -> tuple[Message, ...]:
    """The conversation without its system message."""
    return tuple(message for message in example.messages if message.role != "system")


def exchanges(example: Example) -> set[tuple[Message, ...]]:
    """Every run of whole turns that an example trains on, without the last answer."""
    messages = spoken(example)
    return {messages[start : end - 1] for end in range(2, len(messages) + 1, 2) for start in range(0, end, 2)}


def test_there_are_at_least_twenty_families_and_each_is_scored_evenly(splits):
    counts = Counter(example.family for example in splits.test)
    assert len(FAMILIES) >= 20
    assert set(counts) == set(FAMILIES)
    assert sum(counts.values()) == 1_000
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_same_settings_give_the_same_data_in_another_process(splits):
    code = (
        "from data.basics import BasicsSettings, generate; from data.example import fingerprint;"
        "s = generate(BasicsSettings(train_size=6_000)); print(fingerprint([s.train, s.validation, s.test]))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == fingerprint([splits.train, splits.validation, splits.test])


def test_another_seed_gives_other_data():
    one, other = (generate(BasicsSettings(train_size=50, test_size=50, seed=seed)) for seed in (1, 2))
    assert fingerprint([one.train]) != fingerprint([other.train])
    assert fingerprint([one.test]) != fingerprint([other.test])


def test_no_held_out_question_is_asked_in_training_not_even_inside_a_chain():
    full = generate(BasicsSettings())
    trained = {run for example in full.train for run in exchanges(example)}
    held_out = [spoken(example)[:-1] for example in (*full.test, *full.validation)]
    assert len(set(held_out)) == len(held_out)
    assert not trained & set(held_out)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_content_and_every_wording_of_a_family_is_trained(family, splits):
    """Held-out pairs leave each content at least two wordings, and each wording most of its contents."""
    kept, held_out = hold_out(family, 52, random.Random(0))
    assert len(set(held_out)) == 52
    for task, pairs in zip(family.tasks, kept, strict=True):
        assert not set(pairs) & set(held_out)
        by_content = Counter(content for _, content, _ in pairs)
        by_wording = Counter(wording for _, _, wording in pairs)
        assert len(by_content) == len(task.contents)
        assert min(by_content.values()) >= 2
        assert len(by_wording) == len(task.wordings)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_two_tasks_of_a_family_ask_the_same_thing(family):
    pairs_by_prompt = defaultdict(set)
    for index, task in enumerate(family.tasks):
        for content in range(len(task.contents)):
            for wording in range(len(task.wordings)):
                messages = task.make(content, wording, random.Random(0))
                pairs_by_prompt[messages[:-1]].add((index, content, wording))
    assert all(len(pairs) == 1 for pairs in pairs_by_prompt.values())


def test_a_question_has_one_answer_in_all_families(splits):
    answers = defaultdict(set)
    for example in (*splits.train, *splits.test, *splits.validation):
        if example.family != CHAIN:
            answers[spoken(example)[:-1]].add(example.answer)
    assert all(len(found) == 1 for found in answers.values())


def test_chains_and_system_messages_have_their_share(splits):
    chains = [example for example in splits.train if example.family == CHAIN]
    assert 0.2 < len(chains) / len(splits.train) < 0.3
    assert all(len(spoken(example)) >= 4 for example in chains)
    with_system = [example for example in splits.train if example.messages[0].role == "system"]
    assert 0.07 < len(with_system) / len(splits.train) < 0.13


def test_every_conversation_alternates_and_ends_with_the_assistant(splits):
    for example in (*splits.train, *splits.test, *splits.validation):
        roles = [message.role for message in spoken(example)]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message.content for message in example.messages)


def test_answers_from_sources_cite_the_source_that_holds_them(splits):
    found = [example for example in splits.test if example.family == "sources"]
    assert len(found) in (len(splits.test) // len(FAMILIES), len(splits.test) // len(FAMILIES) + 1)
    for example in found:
        users = [message for message in example.prompt if message.role == "user"]
        first, question = users[0], users[-1]
        place = next(word for word in OPEN_PLACES if word in question.content)
        if example.answer == "The sources do not say.":
            assert f"The {place} opens" not in first.context
        else:
            fact, number = example.answer.rstrip("].").split(" [")
            (line,) = (line for line in first.context.splitlines() if line.startswith(f"[{number}]"))
            assert fact.startswith(f"The {place} opens at")
            assert line.endswith(f"{fact}.")


def test_a_follow_up_on_a_context_asks_about_another_fact_of_it(splits):
    found = [example for example in splits.test if example.family == "context" and len(example.prompt) > 2]
    assert found
    for example in found:
        *_, first, first_answer, _ = example.prompt
        assert first_answer.content != example.answer
        assert {first_answer.content, example.answer} <= {f"{fact.strip('. ')}." for fact in first.context.split(". ")}


def test_only_the_families_asked_for_are_made():
    made = generate(BasicsSettings(train_size=40, validation_size=4, test_size=10, families=("sums", "plurals")))
    assert {example.family for example in made.train} <= {"sums", "plurals", CHAIN}
    assert {example.family for example in made.test} == {"sums", "plurals"}


def test_an_unknown_family_is_refused_with_the_list_of_families():
    with pytest.raises(DataError, match=r"no family 'sum'.*sums"):
        BasicsSettings(families=("sum",))


def test_more_held_out_examples_than_there_are_combinations_are_refused():
    with pytest.raises(DataError, match="smaller splits"):
        generate(BasicsSettings(test_size=50_000))
