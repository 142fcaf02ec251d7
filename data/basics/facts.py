"""Families of closed-book facts."""

from __future__ import annotations

from data.basics.family import Family, Row, Task, ask, with_article
from data.basics.tables import (
    COUNTRIES,
    DAYS,
    ELEMENTS,
    HOMES,
    JOBS,
    KINDS,
    MONTHS,
    SOUNDS,
    THING_COLOURS,
    YOUNG,
)

capitals = Family(
    "capitals",
    (
        Task(
            COUNTRIES,
            ask(
                "{city}",
                "What is the capital of {country}?",
                "Name the capital of {country}.",
                "Which city is the capital of {country}?",
                "Tell me the capital city of {country}.",
                "What is the capital called in {country}?",
                "Capital of {country}?",
            ),
        ),
        Task(
            COUNTRIES,
            ask(
                "{country}",
                "Which country has {city} as its capital?",
                "The city {city} is the capital of which country?",
                "Name the country whose capital is {city}.",
                "In which country is {city}?",
                "To which country does {city} belong?",
            ),
        ),
    ),
)

countries = Family(
    "countries",
    (
        Task(
            COUNTRIES,
            ask(
                "{language}",
                "Which language do most people in {country} speak?",
                "What is the main language of {country}?",
                "Name the main language spoken in {country}.",
                "What language is spoken in {country}?",
                "Language of {country}?",
            ),
        ),
        Task(
            COUNTRIES,
            ask(
                "{continent}",
                "On which continent is {country}?",
                "Name the continent of {country}.",
                "Which continent does {country} belong to?",
                "Tell me the continent where {country} lies.",
                "Continent of {country}?",
            ),
        ),
    ),
    weight=0.9,
)

animals = Family(
    "animals",
    (
        Task(
            tuple(row | {"an_animal": with_article(row["animal"])} for row in YOUNG),
            ask(
                "{young}",
                "What is a young {animal} called?",
                "Name the young of {an_animal}.",
                "What do we call a baby {animal}?",
                "Give the word for a young {animal}.",
                "Which word means the young of {an_animal}?",
            ),
        ),
        Task(
            tuple(row | {"an_animal": with_article(row["animal"])} for row in SOUNDS),
            ask(
                "{sound}",
                "Which sound does {an_animal} make?",
                "What does {an_animal} say?",
                "Name the sound of {an_animal}.",
                "How does {an_animal} sound?",
                "Give the sound that {an_animal} makes.",
            ),
        ),
        Task(
            tuple(row | {"an_animal": with_article(row["animal"])} for row in HOMES),
            ask(
                "{home}",
                "Where does {an_animal} live?",
                "Name the home of {an_animal}.",
                "What is the home of {an_animal}?",
                "In which place does {an_animal} live?",
                "Tell me where {an_animal} lives.",
            ),
        ),
    ),
    weight=0.8,
)

elements = Family(
    "elements",
    (
        Task(
            ELEMENTS,
            ask(
                "{symbol}",
                "What is the chemical symbol for {element}?",
                "Give the symbol of {element}.",
                "Which symbol stands for {element}?",
                "How is {element} written in chemistry?",
                "Chemical symbol of {element}?",
            ),
        ),
        Task(
            ELEMENTS,
            ask(
                "{element}",
                "Which element has the symbol {symbol}?",
                "What does the chemical symbol {symbol} mean?",
                "Name the element written as {symbol}.",
                "In chemistry, what is {symbol}?",
                "The symbol {symbol} stands for which element?",
            ),
        ),
    ),
    weight=0.8,
)

kinds = Family(
    "kinds",
    (
        Task(
            tuple(row | {"a_kind": with_article(row["kind"])} for row in KINDS),
            ask(
                "{a_kind}",
                "What kind of thing is this: {thing}?",
                "To which group does the word {thing} belong?",
                "Put {thing} into a group.",
                "Which kind of thing does {thing} name?",
                "What sort of word is {thing}?",
                "Name the group of {thing}.",
            ),
        ),
    ),
    weight=0.8,
)

everyday = Family(
    "everyday",
    (
        Task(
            THING_COLOURS,
            ask(
                "{colour}",
                "What colour is {thing}?",
                "Name the colour of {thing}.",
                "Which colour does {thing} have?",
                "Tell me the usual colour of {thing}.",
                "Colour of {thing}?",
            ),
        ),
        Task(
            tuple(row | {"a_job": with_article(row["job"])} for row in JOBS),
            ask(
                "{a_job}",
                "Who {deed}?",
                "What do we call a person who {deed}?",
                "Name the job of someone who {deed}.",
                "Which worker {deed}?",
                "Someone {deed}. What is the job?",
            ),
        ),
    ),
    weight=0.5,
)


def _cycle(words: tuple[str, ...]) -> tuple[Row, ...]:
    """Each word of a cycle with its neighbours."""
    n = len(words)
    return tuple({"it": word, "next": words[(i + 1) % n], "previous": words[i - 1]} for i, word in enumerate(words))


_DAYS_AND_MONTHS = _cycle(DAYS) + _cycle(MONTHS)

calendar = Family(
    "calendar",
    tuple(
        Task(
            _DAYS_AND_MONTHS,
            ask(
                f"{{{neighbour}}}",
                f"What comes {side} {{it}}?",
                f"Which one is {side} {{it}}?",
                f"Name the one right {side} {{it}}.",
                f"Tell me what is {side} {{it}}.",
                f"Give the one {side} {{it}}.",
            ),
        )
        for neighbour, side in (("next", "after"), ("previous", "before"))
    ),
    weight=1.1,
)
