"""Families whose answers are in a given context: short notes, and numbered sources.

Answers repeat the context's sentence. A small model learns to continue a sentence that it has started sooner than to
retrieve two things at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import TypeAlias

from data.basics.family import Family, Row, Task, Vary, Wording, ask
from data.basics.tables import COLOURS, HOURS, NAMES, OBJECTS, OPEN_PLACES, ROOMS, SITES

# The number of other facts or sources in a context, drawn from these.
_OTHERS = (0, 0, 1, 1, 2)
_OTHERS_OF_FOLLOW_UPS = (1, 2)

Facts: TypeAlias = Sequence[tuple[str, str]]  # (subject, value)


def _context(
    counts: tuple[int, ...],
    subjects: tuple[str, ...],
    values: tuple[str, ...],
    write: Callable[[Facts, random.Random], Row],
) -> Vary:
    """Adds the context that `write` makes of the content's fact and others; no word occurs in two facts.

    Also adds the `number` of the content's fact, from 1, and if there are other facts, `other`, `other_value` and
    `other_number` of one of them.
    """

    def vary(fields: Row, rng: random.Random) -> Row:
        count = rng.choice(counts)
        other_subjects = rng.sample([word for word in subjects if word != fields["subject"]], count)
        other_values = rng.sample([word for word in values if word != fields["value"]], count)
        facts = [(fields["subject"], fields["value"]), *zip(other_subjects, other_values, strict=True)]
        rng.shuffle(facts)
        numbers = {subject: str(number) for number, (subject, _) in enumerate(facts, start=1)}
        added = write(facts, rng) | {"number": numbers[fields["subject"]]}
        if other_subjects:
            other = other_subjects[0]
            added |= {"other": other, "other_value": other_values[0], "other_number": numbers[other]}
        return added

    return vary


def _grid(subjects: tuple[str, ...], values: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple({"subject": subject, "value": word} for subject, word in product(subjects, values))


def _follow_ups(first: tuple[str, str], answer: str, context: str) -> tuple[Wording, ...]:
    """Follow-up questions about the same context."""
    return tuple(
        Wording(question, answer, context, before=(first,))
        for question in (
            "And the {subject}?",
            "What about the {subject}?",
            "And what about the {subject}?",
            "Now the {subject}, please.",
        )
    )


def _notes(fact: str, values: tuple[str, ...], first: str, *questions: str) -> tuple[Task, Task]:
    """Single questions about notes of one kind of fact, and follow-ups."""

    def write(facts: Facts, rng: random.Random) -> Row:
        return {"notes": " ".join(fact.format(subject=subject, value=word) for subject, word in facts)}

    contents = _grid(OBJECTS, values)
    first_turn = (first, fact.format(subject="{other}", value="{other_value}"))
    return (
        Task(contents, ask(fact, *questions, context="{notes}"), _context(_OTHERS, OBJECTS, values, write)),
        Task(
            contents,
            _follow_ups(first_turn, fact, "{notes}"),
            _context(_OTHERS_OF_FOLLOW_UPS, OBJECTS, values, write),
        ),
    )


context = Family(
    "context",
    (
        *_notes(
            "The {subject} is in the {value}.",
            ROOMS,
            "Where can I find the {other}?",
            "Where is the {subject}?",
            "In which place is the {subject}?",
            "Tell me where the {subject} is.",
            "Find the place of the {subject}.",
        ),
        *_notes(
            "The {subject} is {value}.",
            COLOURS,
            "What is the colour of the {other}?",
            "What colour is the {subject}?",
            "Name the colour of the {subject}.",
            "Which colour has the {subject}?",
            "Tell me the colour of the {subject}.",
        ),
        *_notes(
            "The {subject} belongs to {value}.",
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
    """Numbered sources, one per fact, in the format of retrieval."""
    lines = [
        f"[{number}] {place.capitalize()} ({rng.choice(SITES)}): The {place} opens at {hour}."
        for number, (place, hour) in enumerate(facts, start=1)
    ]
    return {"sources": "\n".join(lines)}


def _sources_without(fields: Row, rng: random.Random) -> Row:
    """One to three sources without the place in question."""
    count = 1 + rng.choice(_OTHERS)
    places = rng.sample([place for place in OPEN_PLACES if place != fields["subject"]], count)
    return _write_sources(list(zip(places, rng.sample(HOURS, count), strict=True)), rng)


_OPENS = "The {subject} opens at {value} [{number}]."
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
            _context(_OTHERS, OPEN_PLACES, HOURS, _write_sources),
        ),
        Task(
            _grid(OPEN_PLACES, HOURS),
            _follow_ups(
                ("When can I visit the {other}?", "The {other} opens at {other_value} [{other_number}]."),
                _OPENS,
                "{sources}",
            ),
            _context(_OTHERS_OF_FOLLOW_UPS, OPEN_PLACES, HOURS, _write_sources),
        ),
        Task(
            tuple({"subject": place} for place in OPEN_PLACES),
            ask("The sources do not say.", *_QUESTIONS, context="{sources}"),
            _sources_without,
        ),
    ),
    weight=3.0,
)
