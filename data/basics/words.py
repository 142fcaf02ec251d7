"""Families about words: their forms, their letters, and short rewriting."""

from __future__ import annotations

import random

from data.basics.family import Family, Row, Task, Wording, ask
from data.basics.tables import (
    ADJECTIVES,
    OBJECTS,
    OPPOSITES,
    PAST,
    PLURALS,
    SHORT_WORDS,
    SORT_WORDS,
    SUBJECT_VERBS,
)

# Opposites are symmetric.
_BOTH_WAYS: tuple[Row, ...] = OPPOSITES + tuple({"word": row["opposite"], "opposite": row["word"]} for row in OPPOSITES)

opposites = Family(
    "opposites",
    (
        Task(
            _BOTH_WAYS,
            ask(
                "{opposite}",
                "What is the opposite of {word}?",
                "Give the opposite of {word}.",
                "Which word means the opposite of {word}?",
                "Name a word that is the opposite of {word}.",
                "Opposite of {word}?",
                "Turn {word} into its opposite.",
            ),
        ),
    ),
    weight=0.7,
)

plurals = Family(
    "plurals",
    (
        Task(
            PLURALS,
            ask(
                "{many}",
                "What is the plural of {one}?",
                "Give the plural of {one}.",
                "One {one}, two what?",
                "Write the plural form of {one}.",
                "Plural of {one}?",
                "How do you say {one} when there are many?",
            ),
        ),
    ),
    weight=0.6,
)

past_tense = Family(
    "past_tense",
    (
        Task(
            PAST,
            ask(
                "{past}",
                "What is the past tense of {verb}?",
                "Give the past tense of {verb}.",
                "Today I {verb}. Yesterday I what?",
                "Write {verb} in the past tense.",
                "Past tense of {verb}?",
                "How do you say {verb} about yesterday?",
            ),
        ),
    ),
    weight=0.6,
)

_SPELLED = tuple(
    {
        "word": word,
        "first": word[0],
        "last": word[-1],
        "letters": " ".join(word),
        "upper": word.upper(),
        "length": str(len(word)),
    }
    for word in SHORT_WORDS
)

letters = Family(
    "letters",
    (
        Task(
            _SPELLED,
            ask(
                "{first}",
                "What is the first letter of {word}?",
                "With which letter does {word} begin?",
                "Give the first letter of {word}.",
                "Which letter starts the word {word}?",
                "First letter of {word}?",
            ),
        ),
        Task(
            _SPELLED,
            ask(
                "{last}",
                "What is the last letter of {word}?",
                "With which letter does {word} end?",
                "Give the last letter of {word}.",
                "Which letter ends the word {word}?",
                "Last letter of {word}?",
            ),
        ),
    ),
    weight=0.9,
)

spelling = Family(
    "spelling",
    (
        Task(
            _SPELLED,
            ask(
                "{letters}",
                "Spell the word {word}.",
                "How do you spell {word}?",
                "Write {word} letter by letter.",
                "Put spaces between the letters of {word}.",
                "Spell {word} for me.",
                "Give the letters of {word}.",
            ),
        ),
    ),
    weight=0.9,
)

_STATEMENTS = tuple(
    pair | {"verb_first": pair["verb"].capitalize(), "subject_lower": pair["subject"].lower(), "adjective": adjective}
    for pair in SUBJECT_VERBS
    for adjective in ADJECTIVES
)

_SENTENCES = tuple(
    {"thing": thing, "adjective": adjective}
    for thing in OBJECTS
    for adjective in ("old", "new", "big", "small", "clean")
)

rewriting = Family(
    "rewriting",
    (
        Task(
            _SPELLED,
            ask(
                "{upper}",
                "Write {word} in capital letters.",
                "Put {word} in upper case.",
                "Turn {word} into capitals.",
                "Make {word} all capitals.",
                "Give {word} in capital letters.",
            ),
        ),
        Task(
            _STATEMENTS,
            ask(
                "{verb_first} {subject_lower} {adjective}?",
                "Make this a question: {subject} {verb} {adjective}.",
                "Turn this into a question: {subject} {verb} {adjective}.",
                "Rewrite as a question: {subject} {verb} {adjective}.",
                "Ask this as a question: {subject} {verb} {adjective}.",
            ),
        ),
        Task(
            _SENTENCES,
            ask(
                "Hello! The {thing} is {adjective}.",
                "Add a greeting: The {thing} is {adjective}.",
                "Put a greeting before this: The {thing} is {adjective}.",
                "Start this with a greeting: The {thing} is {adjective}.",
                "Say this with a greeting: The {thing} is {adjective}.",
            ),
        ),
        Task(
            _SENTENCES,
            ask(
                "The {thing} is not {adjective}.",
                "Say the reverse with not: The {thing} is {adjective}.",
                "Negate this: The {thing} is {adjective}.",
                "Add the word not: The {thing} is {adjective}.",
                "Deny this: The {thing} is {adjective}.",
            ),
        ),
    ),
    weight=0.9,
)


def _triples(words: tuple[str, ...], count: int, seed: int) -> tuple[Row, ...]:
    """Distinct triples of words, each in the order of the list."""
    rng = random.Random(seed)
    chosen: set[tuple[int, ...]] = set()
    while len(chosen) < count:
        chosen.add(tuple(sorted(rng.sample(range(len(words)), 3))))
    return tuple({"sorted": " ".join(words[i] for i in triple)} for triple in sorted(chosen))


def _shuffled(fields: Row, rng: random.Random) -> Row:
    """The sorted words in random order."""
    words = fields["sorted"].split()
    rng.shuffle(words)
    return {"listing": " ".join(words)}


_UP = (
    "Smallest first, please: {listing}",
    "Sort these numbers: {listing}",
    "Put in order, smallest first: {listing}",
    "Order these numbers from small to large: {listing}",
    "Arrange the numbers {listing} in order.",
)
_ALPHABETICAL = (
    "Sort these words by the alphabet: {listing}",
    "Put in alphabetical order: {listing}",
    "Order these words from A to Z: {listing}",
    "Arrange the words {listing} by the alphabet.",
    "From A to Z, please: {listing}",
)

sorting = Family(
    "sorting",
    (
        Task(_triples(tuple(map(str, range(1, 10))), 30, 1), ask("{sorted}", *_UP), _shuffled),
        Task(_triples(SORT_WORDS, 30, 2), ask("{sorted}", *_ALPHABETICAL), _shuffled),
    ),
    weight=1.3,
)

word_follow_ups = (
    Task(
        _BOTH_WAYS,
        tuple(
            Wording(question, "{opposite}", before=(("What word is the opposite of {other}?", "{other_opposite}"),))
            for question in ("And of {word}?", "And the opposite of {word}?", "What about {word}?", "Now {word}.")
        ),
        lambda fields, rng: _another(_BOTH_WAYS, fields, rng),
    ),
    Task(
        PLURALS,
        tuple(
            Wording(question, "{many}", before=(("What is {other} in the plural?", "{other_many}"),))
            for question in ("And of {one}?", "And the plural of {one}?", "What about {one}?", "Now {one}.")
        ),
        lambda fields, rng: _another(PLURALS, fields, rng),
    ),
)


def _another(rows: tuple[Row, ...], fields: Row, rng: random.Random) -> Row:
    """Another row's cells, with names prefixed by `other_`; its first cell is named `other`."""
    row = rng.choice([row for row in rows if row != fields])
    first = next(iter(row))
    return {"other" if name == first else f"other_{name}": cell for name, cell in row.items()}
