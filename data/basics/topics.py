"""The topics of notes and sources: kinds of facts with their subjects, values and questions.

A fact is one sentence. Its questions repeat the subject in the fact's words, as users' questions about their documents
do; the model retrieves by these words.
"""

from __future__ import annotations

from dataclasses import dataclass

from data.basics.pools import (
    ALL_COLOURS,
    ANIMALS,
    DISHES,
    EVENTS,
    FIRST_NAMES,
    FOODS,
    FORMS,
    HOURS,
    JOBS,
    MACHINES,
    MATERIALS,
    NOUNS,
    OFFICES,
    PARTS,
    PEOPLE,
    PLACES,
    PLACES_OF_THINGS,
    PREDICATES,
    THINGS,
    TOWNS,
    WARRANTIES,
    YEARS,
    numbers,
)
from data.basics.tables import DAYS, MONTHS


@dataclass(frozen=True, slots=True)
class Topic:
    """One kind of fact.

    `fact` and `questions` are format strings over `subject` and `value`; `short` is the subject in a follow-up ("And
    the library?"). Topics with the same subjects give several facts about one subject.
    """

    name: str
    subjects: tuple[str, ...]
    values: tuple[str, ...]
    fact: str
    questions: tuple[str, ...]
    short: str = "the {subject}"


TOPICS = (
    Topic(
        "about",
        NOUNS,
        PREDICATES,
        "The {subject} {value}.",
        (
            "What do you know about the {subject}?",
            "Tell me about the {subject}.",
            "What is said about the {subject}?",
            "Tell me something about the {subject}.",
            "What do we know of the {subject}?",
        ),
    ),
    Topic(
        "opening",
        PLACES,
        HOURS,
        "The {subject} opens at {value}.",
        (
            "When does the {subject} open?",
            "At what time does the {subject} open?",
            "Tell me when the {subject} opens.",
            "From what hour is the {subject} open?",
            "Opening time of the {subject}?",
        ),
    ),
    Topic(
        "closed",
        PLACES,
        DAYS,
        "The {subject} is closed on {value}.",
        (
            "On which day is the {subject} closed?",
            "When is the {subject} closed?",
            "Which day is the {subject} closed?",
            "Tell me on which day the {subject} is closed.",
        ),
    ),
    Topic(
        "ticket",
        PLACES,
        numbers(3, 60, 1),
        "The {subject} charges {value} crowns.",
        (
            "How much does the {subject} charge?",
            "What does the {subject} charge?",
            "How many crowns does the {subject} charge?",
            "Price of the {subject}?",
        ),
    ),
    Topic(
        "place",
        THINGS,
        PLACES_OF_THINGS,
        "The {subject} is in the {value}.",
        (
            "Where is the {subject}?",
            "In which place is the {subject}?",
            "Tell me where the {subject} is.",
            "Find the place of the {subject}.",
        ),
    ),
    Topic(
        "colour",
        THINGS,
        ALL_COLOURS,
        "The {subject} is {value}.",
        (
            "What colour is the {subject}?",
            "Name the colour of the {subject}.",
            "Which colour has the {subject}?",
            "Tell me the colour of the {subject}.",
        ),
    ),
    Topic(
        "owner",
        THINGS,
        FIRST_NAMES,
        "The {subject} belongs to {value}.",
        (
            "Who owns the {subject}?",
            "To whom does the {subject} belong?",
            "Tell me who owns the {subject}.",
            "Name the owner of the {subject}.",
        ),
    ),
    Topic(
        "material",
        THINGS,
        MATERIALS,
        "The {subject} is made of {value}.",
        (
            "What is the {subject} made of?",
            "Of what is the {subject} made?",
            "Which material is the {subject} made of?",
            "Name the material of the {subject}.",
        ),
    ),
    Topic(
        "upkeep",
        MACHINES,
        PARTS,
        "The {subject} needs a new {value} every year.",
        (
            "What does the {subject} need?",
            "Which part does the {subject} need every year?",
            "What is changed in the {subject}?",
            "Which new part does the {subject} need?",
        ),
    ),
    Topic(
        "warranty",
        MACHINES,
        WARRANTIES,
        "The {subject} has a warranty of {value} months.",
        (
            "How long is the warranty of the {subject}?",
            "What warranty has the {subject}?",
            "How long is the {subject} under warranty?",
            "Warranty of the {subject}?",
        ),
    ),
    Topic(
        "event",
        EVENTS,
        (*DAYS, *(f"{day} {month}" for day, month in zip(numbers(1, 28, 1), MONTHS * 2, strict=False))),
        "The {subject} is held on {value}.",
        (
            "When is the {subject}?",
            "On which day is the {subject} held?",
            "Tell me the date of the {subject}.",
            "Date of the {subject}?",
        ),
    ),
    Topic(
        "cooking",
        DISHES,
        numbers(5, 120, 5),
        "The {subject} takes {value} minutes.",
        (
            "How long does the {subject} take?",
            "How many minutes does the {subject} take?",
            "Tell me how long the {subject} takes.",
            "Cooking time of the {subject}?",
        ),
    ),
    Topic(
        "feeding",
        ANIMALS,
        FOODS,
        "The {subject} eats {value}.",
        (
            "What does the {subject} eat?",
            "Which food does the {subject} eat?",
            "Tell me what the {subject} eats.",
            "Food of the {subject}?",
        ),
    ),
    Topic(
        "deadline",
        FORMS,
        (*DAYS, *MONTHS),
        "The {subject} is due by {value}.",
        (
            "When is the {subject} due?",
            "Until when do I need the {subject}?",
            "Tell me when the {subject} is due.",
            "Deadline of the {subject}?",
        ),
    ),
    Topic(
        "phone",
        OFFICES,
        numbers(1013, 9950, 89),
        "The {subject} has the number {value}.",
        (
            "What is the number of the {subject}?",
            "Which number has the {subject}?",
            "How do I reach the {subject}?",
            "Phone number of the {subject}?",
        ),
    ),
    Topic(
        "job",
        PEOPLE,
        JOBS,
        "{subject} works as a {value}.",
        (
            "What does {subject} do?",
            "What is the job of {subject}?",
            "Tell me what {subject} works as.",
            "Job of {subject}?",
        ),
        "{subject}",
    ),
    Topic(
        "home",
        PEOPLE,
        TOWNS,
        "{subject} lives in {value}.",
        (
            "Where does {subject} live?",
            "In which town does {subject} live?",
            "Tell me where {subject} lives.",
            "Home of {subject}?",
        ),
        "{subject}",
    ),
    Topic(
        "built",
        TOWNS,
        YEARS,
        "{subject} was founded in {value}.",
        (
            "When was {subject} founded?",
            "In which year was {subject} founded?",
            "Tell me when {subject} was founded.",
            "How old is {subject}?",
        ),
        "{subject}",
    ),
    Topic(
        "sea",
        TOWNS,
        numbers(3, 320, 3),
        "{subject} lies {value} kilometres from the sea.",
        (
            "How far is {subject} from the sea?",
            "Tell me how far {subject} lies from the sea.",
            "How many kilometres is {subject} from the sea?",
            "Distance of {subject} from the sea?",
        ),
        "{subject}",
    ),
    Topic(
        "mayor",
        TOWNS,
        PEOPLE,
        "{subject} has a mayor called {value}.",
        (
            "Who is the mayor of {subject}?",
            "Name the mayor of {subject}.",
            "What is the mayor of {subject} called?",
            "Which mayor has {subject}?",
        ),
        "{subject}",
    ),
)
