"""Families whose answers must be found in a given context: short notes, and numbered sources."""

from __future__ import annotations

import random
from collections.abc import Callable

from data.basics.family import Family, Row, Task, ask
from data.basics.tables import COLOURS, HOURS, NAMES, OBJECTS, OPEN_PLACES, ROOMS, SITES

_FACT_ROOM = "{name} is in the {room}."
_FACT_COLOUR = "The {thing} is {colour}."


def _grid(**columns: tuple[str, ...]) -> tuple[Row, ...]:
    """Every combination of two columns."""
    (one, ones), (other, others) = columns.items()
    return tuple({one: a, other: b} for a in ones for b in others)


_IN_ROOMS = _grid(name=NAMES, room=ROOMS)
_COLOURED = _grid(thing=OBJECTS, colour=COLOURS)


def _among(fact: str, first: tuple[str, ...], second: tuple[str, ...]) -> Callable[[Row, random.Random], Row]:
    """A context of one to three facts of one form, the content's own among them; no word stands in two facts."""

    def vary(fields: Row, rng: random.Random) -> Row:
        one, other = list(fields)[:2]
        others = rng.randrange(3)
        firsts = rng.sample([word for word in first if word != fields[one]], others)
        seconds = rng.sample([word for word in second if word != fields[other]], others)
        pairs = [(fields[one], fields[other]), *zip(firsts, seconds, strict=True)]
        rng.shuffle(pairs)
        return {"facts": " ".join(fact.format_map({one: a, other: b}) for a, b in pairs)}

    return vary


_rooms = _among(_FACT_ROOM, NAMES, ROOMS)
_colours = _among(_FACT_COLOUR, OBJECTS, COLOURS)

context = Family(
    "context",
    (
        Task(
            _IN_ROOMS,
            ask(
                "In the {room}.",
                "Where is {name}?",
                "In which room is {name}?",
                "Tell me where {name} is.",
                "Find the room of {name}.",
                context="{facts}",
            ),
            _rooms,
        ),
        Task(
            _IN_ROOMS,
            ask(
                "It is {name}.",
                "Who is in the {room}?",
                "Which person is in the {room}?",
                "Tell me who is in the {room}.",
                "Name the person in the {room}.",
                context="{facts}",
            ),
            _rooms,
        ),
        Task(
            _COLOURED,
            ask(
                "It is {colour}.",
                "What colour is the {thing}?",
                "Name the colour of the {thing}.",
                "Which colour has the {thing}?",
                "Tell me the colour of the {thing}.",
                context="{facts}",
            ),
            _colours,
        ),
        Task(
            _COLOURED,
            ask(
                "The {thing}.",
                "What is {colour}?",
                "Which thing is {colour}?",
                "Name the {colour} thing.",
                "Find the thing that is {colour}.",
                context="{facts}",
            ),
            _colours,
        ),
    ),
    weight=1.6,
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
    others = rng.randrange(3)
    places = rng.sample([place for place in OPEN_PLACES if place != fields["place"]], others)
    hours = rng.sample([hour for hour in HOURS if hour != fields["hour"]], others)
    return _sources(fields, rng, [fields["place"], *places], [fields["hour"], *hours])


def _without_answer(fields: Row, rng: random.Random) -> Row:
    others = rng.randint(1, 3)
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
    weight=1.3,
)
