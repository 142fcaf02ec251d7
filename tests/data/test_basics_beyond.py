"""Requests outside the model's skills, and their answers."""

import random
import re

from data.basics import FAMILIES, BasicsSettings, generate
from data.basics.beyond import ANSWER

BEYOND = FAMILIES["beyond"]


def test_every_such_request_is_answered_with_what_the_model_can_do() -> None:
    rng = random.Random(0)
    for task in BEYOND.tasks:
        for wording in range(len(task.wordings)):
            assert task.make(0, wording, rng)[-1].content == ANSWER


def test_no_other_family_answers_like_that() -> None:
    made = generate(BasicsSettings(train_size=3_000, chain_share=0.0))
    assert {example.family for example in made.train if example.answer == ANSWER} == {"beyond"}


def test_the_same_words_are_asked_about_in_other_families() -> None:
    """What a request is about does not tell that it is beyond the model: countries and animals are, and are not."""
    made = generate(BasicsSettings(train_size=6_000, chain_share=0.0))
    words: dict[bool, set[str]] = {True: set(), False: set()}
    for example in made.train:
        words[example.family == "beyond"] |= set(re.findall("[A-Za-z]+", example.prompt[-1].content))
    shared = words[True] & words[False]
    assert len(shared) > 60


def test_the_requests_that_the_demo_is_asked_are_not_among_the_trained_ones() -> None:
    """`haiku`, a sea shanty or autumn stand in no wording and no content: the answer to them is a generalisation."""
    requests = {str(fields) for task in BEYOND.tasks for fields in task.contents}
    assert not any(word in text.lower() for text in requests for word in ("haiku", "shanty", "autumn"))
