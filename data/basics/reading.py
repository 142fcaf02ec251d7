"""Families whose answers must be found in a given context: short notes, and numbered sources.

Answers repeat the fact as the context has it: to tell which of several facts is asked for, a small model then has
to go on with a sentence that it has begun, which it learns sooner than to look two things up at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import TypeAlias

from data.basics.family import Family, Row, Task, Vary, Wording, ask
from data.basics.tables import COLOURS, HOURS, NAMES, OBJECTS, OPEN_PLACES, ROOMS, SITES

# How many facts or sources stand beside the one that is asked for, drawn from these.
_OTHERS = (0, 0, 1, 1, 2)
_OTHERS_OF_FOLLOW_UPS = (1, 2)

Facts: TypeAlias = Sequence[tuple[str, str]]  # a subject and what is told of it


def _among(
    others: tuple[int, ...],
    subjects: tuple[str, ...],
    told: tuple[str, ...],
    write: Callable[[Facts, random.Random], Row],
) -> Vary:
    """A context in which no word stands in two facts, made by `write`, and one of the other facts.

    Adds what `write` gives, and `other`, `other_told` and `other_number` of a fact beside the content's own, where
    there is one; `number` counts the content's own fact, from 1.
    """

    def vary(fields: Row, rng: random.Random) -> Row:
        count = rng.choice(others)
        beside = rng.sample([word for word in subjects if word != fields["subject"]], count)
        told_beside = rng.sample([word for word in told if word != fields["told"]], count)
        facts = [(fields["subject"], fields["told"]), *zip(beside, told_beside, strict=True)]
        rng.shuffle(facts)
        numbers = {subject: str(number) for number, (subject, _) in enumerate(facts, start=1)}
        added = write(facts, rng) | {"number": numbers[fields["subject"]]}
        if beside:
            added |= {"other": beside[0], "other_told": told_beside[0], "other_number": numbers[beside[0]]}
        return added

    return vary


def _grid(subjects: tuple[str, ...], told: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple({"subject": subject, "told": word} for subject, word in product(subjects, told))


def _follow_ups(first: tuple[str, str], answer: str, context: str) -> tuple[Wording, ...]:
    """Questions that follow a first one about the same context."""
    return tuple(
        Wording(question, answer, context, before=(first,))
        for question in (
            "And the {subject}?",
            "What about the {subject}?",
            "And what about the {subject}?",
            "Now the {subject}, please.",
        )
    )


def _notes(fact: str, told: tuple[str, ...], first: str, *questions: str) -> tuple[Task, Task]:
    """Single questions about notes of one form, and follow-ups to a first question."""

    def write(facts: Facts, rng: random.Random) -> Row:
        return {"notes": " ".join(fact.format(subject=subject, told=word) for subject, word in facts)}

    contents = _grid(OBJECTS, told)
    first_turn = (first, fact.format(subject="{other}", told="{other_told}"))
    return (
        Task(contents, ask(fact, *questions, context="{notes}"), _among(_OTHERS, OBJECTS, told, write)),
        Task(
            contents,
            _follow_ups(first_turn, fact, "{notes}"),
            _among(_OTHERS_OF_FOLLOW_UPS, OBJECTS, told, write),
        ),
    )


context = Family(
    "context",
    (
        *_notes(
            "The {subject} is in the {told}.",
            ROOMS,
            "Where can I find the {other}?",
            "Where is the {subject}?",
            "In which place is the {subject}?",
            "Tell me where the {subject} is.",
            "Find the place of the {subject}.",
        ),
        *_notes(
            "The {subject} is {told}.",
            COLOURS,
            "What is the colour of the {other}?",
            "What colour is the {subject}?",
            "Name the colour of the {subject}.",
            "Which colour has the {subject}?",
            "Tell me the colour of the {subject}.",
        ),
        *_notes(
            "The {subject} belongs to {told}.",
            NAMES,
            "Whose is the {other}?",
            "Who owns the {subject}?",
            "To whom does the {subject} belong?",
            "Tell me who owns the {subject}.",
            "Name the owner of the {subject}.",
        ),
    ),
    weight=3.0,
)


def _write_sources(facts: Facts, rng: random.Random) -> Row:
    """Numbered sources, one a fact, in the form in which retrieval gives them."""
    lines = [
        f"[{number}] {place.capitalize()} ({rng.choice(SITES)}): The {place} opens at {hour}."
        for number, (place, hour) in enumerate(facts, start=1)
    ]
    return {"sources": "\n".join(lines)}


def _sources_without(fields: Row, rng: random.Random) -> Row:
    """One to three sources, none of them about the place asked for."""
    count = 1 + rng.choice(_OTHERS)
    places = rng.sample([place for place in OPEN_PLACES if place != fields["subject"]], count)
    return _write_sources(list(zip(places, rng.sample(HOURS, count), strict=True)), rng)


_OPENS = "The {subject} opens at {told} [{number}]."
_QUESTIONS = (
    "When does the {subject} open?",
    "At what time does the {subject} open?",
    "Tell me when the {subject} opens.",
    "From what hour is the {subject} open?",
    "Opening time of the {subject}?",
)

sources = Family(
    "sources",
    (
        Task(
            _grid(OPEN_PLACES, HOURS),
            ask(_OPENS, *_QUESTIONS, context="{sources}"),
            _among(_OTHERS, OPEN_PLACES, HOURS, _write_sources),
        ),
        Task(
            _grid(OPEN_PLACES, HOURS),
            _follow_ups(
                ("When can I visit the {other}?", "The {other} opens at {other_told} [{other_number}]."),
                _OPENS,
                "{sources}",
            ),
            _among(_OTHERS_OF_FOLLOW_UPS, OPEN_PLACES, HOURS, _write_sources),
        ),
        Task(
            tuple({"subject": place} for place in OPEN_PLACES),
            ask("The sources do not say.", *_QUESTIONS, context="{sources}"),
            _sources_without,
        ),
    ),
    weight=3.0,
)
