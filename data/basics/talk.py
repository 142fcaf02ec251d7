"""Families of talk: greetings, who the assistant is, yes or no, and turns that lean on the turn before."""

from __future__ import annotations

import random

from data.basics.family import Family, Row, Task, Wording, ask, with_article
from data.basics.tables import COUNTRIES, KINDS, NAMES
from data.basics.words import word_follow_ups

_NAMED = tuple({"name": name} for name in NAMES)

greetings = Family(
    "greetings",
    (
        Task(
            _NAMED,
            ask(
                "Hello {name}! How can I help you?",
                "Hello, I am {name}.",
                "Hi, my name is {name}.",
                "Good morning, {name} here.",
                "Hi! This is {name}.",
                "Good day. They call me {name}.",
                "Hey, it is {name}.",
            ),
        ),
        Task(
            _NAMED,
            ask(
                "Goodbye {name}! See you soon.",
                "Bye! Yours, {name}.",
                "Good night from {name}.",
                "See you later, says {name}.",
                "Now {name} has to go. Bye.",
                "Goodbye, and greetings from {name}.",
            ),
        ),
        Task(
            tuple({"thanks": text} for text in ("Thanks", "Thank you", "Many thanks", "Thanks a lot")),
            ask(
                "You are welcome!",
                "{thanks}!",
                "{thanks} for your help.",
                "{thanks}, that was helpful.",
                "{thanks}, well done.",
            ),
        ),
        Task(
            tuple({"hello": text} for text in ("Hello", "Hi", "Hey", "Good morning", "Good evening")),
            ask(
                "Hello! How can I help you?",
                "{hello}!",
                "{hello}.",
                "{hello} there!",
                "{hello}, assistant.",
                "{hello}, Resonance!",
            ),
        ),
    ),
    weight=0.8,
)

_OPENINGS = tuple(
    {"opening": text}
    for text in (
        "",
        "Hello! ",
        "Hi. ",
        "Excuse me. ",
        "One question: ",
        "Please tell me: ",
        "Good morning! ",
        "I would like to know: ",
        "Say, ",
        "Now tell me: ",
    )
)

identity = Family(
    "identity",
    (
        Task(
            _OPENINGS,
            ask(
                "I am Resonance, a small language model.",
                "{opening}Who are you?",
                "{opening}What is your name?",
                "{opening}What are you?",
                "{opening}How are you called?",
                "{opening}Whom am I talking to?",
                "{opening}Introduce yourself.",
            ),
        ),
        Task(
            _OPENINGS,
            ask(
                "No, I am a computer program.",
                "{opening}Are you a human?",
                "{opening}Are you a real person?",
                "{opening}Do you have a body?",
                "{opening}Are you a man or a woman?",
            ),
        ),
        Task(
            _OPENINGS,
            ask(
                "I can answer short questions and do small tasks.",
                "{opening}What can you do?",
                "{opening}How can you help me?",
                "{opening}What are you good at?",
                "{opening}Which tasks can you do?",
            ),
        ),
        Task(
            _OPENINGS,
            ask(
                "I am an instance of GPT-2, trained from scratch.",
                "{opening}How were you made?",
                "{opening}Which model are you?",
                "{opening}What kind of network are you?",
                "{opening}How do you work inside?",
            ),
        ),
    ),
    weight=0.4,
)


def _claims(rows: tuple[Row, ...], subject: str, group: str, seed: int) -> tuple[Row, ...]:
    """Each subject with its own group (yes) and with another one (no)."""
    groups = tuple(dict.fromkeys(row[group] for row in rows))
    rng = random.Random(seed)
    claims: list[Row] = []
    for row in rows:
        wrong = rng.choice([other for other in groups if other != row[group]])
        claims.append({subject: row[subject], group: row[group], "verdict": "Yes"})
        claims.append({subject: row[subject], group: wrong, "verdict": "No"})
    return tuple(claims)


_THINGS = tuple(row | {"a_kind": with_article(row["kind"])} for i, row in enumerate(KINDS) if i % 5 < 3)
_OLD_WORLD = tuple(row for row in COUNTRIES if row["continent"] in ("Europe", "Asia", "Africa"))[::2]

yes_no = Family(
    "yes_no",
    (
        Task(
            _claims(_THINGS, "thing", "a_kind", 3),
            ask(
                "{verdict}",
                "Is the word {thing} the name of {a_kind}?",
                "Yes or no: {thing} names {a_kind}.",
                "Does {thing} name {a_kind}?",
                "True or not? The word {thing} means {a_kind}.",
                "Can {thing} be called {a_kind}?",
            ),
        ),
        Task(
            _claims(_OLD_WORLD, "country", "continent", 4),
            ask(
                "{verdict}",
                "Is {country} in {continent}?",
                "Yes or no: {country} is in {continent}.",
                "Does {country} lie in {continent}?",
                "Is {country} a part of {continent}?",
                "True or not? {country} is in {continent}.",
            ),
        ),
    ),
    weight=1.4,
)


def _first_country(fields: Row, rng: random.Random) -> Row:
    """Another country to have asked about in the turn before."""
    row = rng.choice([row for row in COUNTRIES if row["country"] != fields["country"]])
    return {"other": row["country"], "other_city": row["city"]}


follow_ups = Family(
    "follow_ups",
    (
        Task(
            COUNTRIES,
            tuple(
                Wording(question, "{city}", before=(("What is the capital city of {other}?", "{other_city}"),))
                for question in ("And of {country}?", "And {country}?", "What about {country}?", "Now {country}.")
            ),
            _first_country,
        ),
        *word_follow_ups,
        Task(
            _NAMED,
            tuple(
                Wording(
                    question,
                    "You are {name}.",
                    before=(("Hello, {name} speaking.", "Hello {name}! How can I help you?"),),
                )
                for question in (
                    "What is my name?",
                    "Who am I?",
                    "Do you know my name?",
                    "Tell me my name.",
                    "How am I called?",
                )
            ),
        ),
    ),
    weight=0.9,
)
