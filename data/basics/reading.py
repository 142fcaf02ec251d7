"""Families whose answers must be found in a given context: short notes, and numbered sources."""

from __future__ import annotations

import random
from collections.abc import Callable

from data.basics.family import Family, Row, Task, ask
from data.basics.tables import COLOURS, HOURS, NAMES, OBJECTS, OPEN_PLACES, ROOMS, SITES

# Words that are asked for stand behind a space everywhere, so that they are the same token in text and question.
_OPENING = "Notes:"
_OTHER_FACTS = (0, 0, 1, 1, 2)  # how many facts or sources stand beside the one asked for, drawn from these


def _grid(**columns: tuple[str, ...]) -> tuple[Row, ...]:
    """Every combination of two columns."""
    (one, ones), (other, others) = columns.items()
    return tuple({one: a, other: b} for a in ones for b in others)


def _among(fact: str, first: tuple[str, ...], second: tuple[str, ...]) -> Callable[[Row, random.Random], Row]:
    """A context of one to three facts of one form, the content's own among them; no word stands in two facts."""

    def vary(fields: Row, rng: random.Random) -> Row:
        one, other = list(fields)[:2]
        others = rng.choice(_OTHER_FACTS)
        firsts = rng.sample([word for word in first if word != fields[one]], others)
        seconds = rng.sample([word for word in second if word != fields[other]], others)
        pairs = [(fields[one], fields[other]), *zip(firsts, seconds, strict=True)]
        rng.shuffle(pairs)
        return {"facts": " ".join([_OPENING, *(fact.format_map({one: a, other: b}) for a, b in pairs)])}

    return vary


context = Family(
    "context",
    (
        Task(
            _grid(name=NAMES, room=ROOMS),
            ask(
                "In the {room}.",
                "Where is {name}?",
                "In which place is {name}?",
                "Tell me where {name} is.",
                "Find the place of {name}.",
                context="{facts}",
            ),
            _among("{name} is in the {room}.", NAMES, ROOMS),
        ),
        Task(
            _grid(thing=OBJECTS, colour=COLOURS),
            ask(
                "It is {colour}.",
                "What colour is the {thing}?",
                "Name the colour of the {thing}.",
                "Which colour has the {thing}?",
                "Tell me the colour of the {thing}.",
                context="{facts}",
            ),
            _among("The {thing} is {colour}.", OBJECTS, COLOURS),
        ),
        Task(
            _grid(name=NAMES, thing=OBJECTS),
            ask(
                "The {thing}.",
                "What does {name} have?",
                "Which thing does {name} have?",
                "Tell me what {name} has.",
                "Name the thing that {name} has.",
                context="{facts}",
            ),
            _among("{name} has the {thing}.", NAMES, OBJECTS),
        ),
    ),
    weight=2.0,
)

_OPEN = _grid(place=OPEN_PLACES, hour=HOURS)
_NOT_SAID = "The sources do not say."


def _sources(fields: Row, rng: random.Random, places: list[str], hours: list[str]) -> Row:
    """Numbered sources, one a place, as retrieval writes them; `number` is the source of the asked place."""
    order = list(zip(places, hours, strict=True))
    rng.shuffle(order)
    lines = [
        f"[{i}] {place.capitalize()} ({rng.choice(SITES)}): The {place} opens at {hour}."
        for i, (place, hour) in enumerate(order, start=1)
    ]
    asked = [i for i, (place, _) in enumerate(order, start=1) if place == fields["place"]]
    return {"sources": "\n".join(lines), "number": str(asked[0]) if asked else ""}


def _with_answer(fields: Row, rng: random.Random) -> Row:
    others = rng.choice(_OTHER_FACTS)
    places = rng.sample([place for place in OPEN_PLACES if place != fields["place"]], others)
    hours = rng.sample([hour for hour in HOURS if hour != fields["hour"]], others)
    return _sources(fields, rng, [fields["place"], *places], [fields["hour"], *hours])


def _without_answer(fields: Row, rng: random.Random) -> Row:
    others = 1 + rng.choice(_OTHER_FACTS)
    places = rng.sample([place for place in OPEN_PLACES if place != fields["place"]], others)
    return _sources(fields, rng, places, rng.sample(HOURS, others))


_QUESTIONS = (
    "When does the {place} open?",
    "At what time does the {place} open?",
    "Tell me when the {place} opens.",
    "From what hour is the {place} open?",
    "Opening time of the {place}?",
)

sources = Family(
    "sources",
    (
        Task(_OPEN, ask("At {hour} [{number}].", *_QUESTIONS, context="{sources}"), _with_answer),
        Task(
            tuple({"place": place} for place in OPEN_PLACES),
            ask(_NOT_SAID, *_QUESTIONS, context="{sources}"),
            _without_answer,
        ),
    ),
    weight=1.6,
)
