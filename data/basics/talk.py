"""Families of small talk: greetings, the assistant's identity, yes or no, and follow-ups to an earlier turn."""

from __future__ import annotations

import random

from data.basics.family import Family, Row, Task, Wording, ask
from data.basics.tables import COUNTRIES, NAMES, PREDICATES
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
    weight=0.7,
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


def _claims(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """A right claim (yes) and a wrong one (no) per subject."""
    return tuple(
        {"subject": row["subject"], "claim": row[which], "verdict": verdict}
        for row in rows
        for which, verdict in (("right", "Yes"), ("wrong", "No"))
    )


_WRONG_CONTINENT = {"Europe": "Asia", "Asia": "Africa", "Africa": "Europe"}
_PLACES = tuple(
    {"subject": row["country"], "right": row["continent"], "wrong": _WRONG_CONTINENT[row["continent"]]}
    for row in COUNTRIES
    if row["continent"] in _WRONG_CONTINENT
)[::2]

yes_no = Family(
    "yes_no",
    (
        Task(
            _claims(PREDICATES),
            ask(
                "{verdict}",
                "Is {subject} {claim}?",
                "Yes or no: is {subject} {claim}?",
                "Tell me, is {subject} {claim}?",
                "Say yes or no. Is {subject} {claim}?",
                "What do you think, is {subject} {claim}?",
            ),
        ),
        Task(
            _claims(_PLACES),
            ask(
                "{verdict}",
                "Is {subject} in {claim}?",
                "Yes or no: is {subject} in {claim}?",
                "Tell me, is {subject} in {claim}?",
                "Say yes or no. Is {subject} in {claim}?",
                "What do you think, is {subject} in {claim}?",
            ),
        ),
    ),
    weight=1.8,
)


def _first_country(fields: Row, rng: random.Random) -> Row:
    """Another country, for the earlier turn."""
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
    weight=0.8,
)
