"""Families about numbers: sums, counting, comparing, units."""

from __future__ import annotations

import random

from data.basics.family import Family, Row, Task, ask, with_article
from data.basics.tables import COLOURS, NAMES, NUMBER_WORDS, OBJECTS, SHORT_WORDS, SIZES

# All operands and results are at most ten.
_SUMS = tuple({"a": str(a), "b": str(b), "sum": str(a + b)} for a in range(1, 10) for b in range(1, 11 - a))
_DIFFERENCES = tuple({"a": str(a), "b": str(b), "rest": str(a - b)} for a in range(2, 11) for b in range(1, a))

sums = Family(
    "sums",
    tuple(
        Task(
            contents,
            ask(
                answer,
                f"What is {{a}} {sign} {{b}}?",
                f"How much is {{a}} {sign} {{b}}?",
                f"Compute {{a}} {sign} {{b}}.",
                f"Please solve {{a}} {sign} {{b}}.",
                f"What is {{a}} {word} {{b}}?",
                f"How much is {{a}} {word} {{b}}?",
            ),
        )
        for contents, answer, sign, word in (
            (_SUMS, "{sum}", "+", "plus"),
            (_DIFFERENCES, "{rest}", "-", "minus"),
        )
    ),
    weight=2.0,
)

_NUMBERS = tuple({"digits": str(i), "words": word} for i, word in enumerate(NUMBER_WORDS))

number_words = Family(
    "number_words",
    (
        Task(
            _NUMBERS,
            ask(
                "{words}",
                "Write {digits} as a word.",
                "Write the number {digits} in words.",
                "How is {digits} written as a word?",
                "Spell out {digits}.",
                "Which word is the number {digits}?",
            ),
        ),
        Task(
            _NUMBERS,
            ask(
                "{digits}",
                "Write {words} as a number.",
                "Write {words} in digits.",
                "How is {words} written in digits?",
                "Which number is {words}?",
                "Turn {words} into digits.",
            ),
        ),
    ),
    weight=0.6,
)


def _lists(words: tuple[str, ...], seed: int) -> tuple[Row, ...]:
    """Twelve different lists per length from 2 to 5."""
    rng = random.Random(seed)
    rows: dict[str, Row] = {}
    for length in range(2, 6):
        while len(rows) < 12 * (length - 1):
            listing = ", ".join(rng.sample(words, length))
            rows[listing] = {"listing": listing, "count": str(length)}
    return tuple(rows.values())


counting = Family(
    "counting",
    (
        Task(
            _lists(OBJECTS + COLOURS, 1),
            ask(
                "{count}",
                "How many words are in this list: {listing}?",
                "Count the words: {listing}",
                "How many words are there? {listing}",
                "Give the number of words here: {listing}",
                "How long is this list: {listing}?",
            ),
        ),
        Task(
            tuple(
                {"word": word, "count": str(len(word))} for word in dict.fromkeys((*SHORT_WORDS[:10], *NAMES, *COLOURS))
            ),
            ask(
                "{count}",
                "How many letters has the word {word}?",
                "Count the letters in {word}.",
                "Give the number of letters in {word}.",
                "The word {word} has how many letters?",
                "What is the length of {word} in letters?",
            ),
        ),
    ),
    weight=1.2,
)


# All pairs of different numbers from 1 to 10.
_PAIRS = tuple({"low": str(low), "high": str(high)} for low in range(1, 11) for high in range(low + 1, 11))


def _either_order(fields: Row, rng: random.Random) -> Row:
    """A pair in random order."""
    one, other = rng.sample((fields["low"], fields["high"]), 2)
    return {"one": one, "other": other}


_SIZE_PAIRS = tuple(
    {"low": with_article(small), "high": with_article(large)}
    for i, small in enumerate(SIZES)
    for large in SIZES[i + 1 :]
)

comparisons = Family(
    "comparisons",
    tuple(
        Task(
            contents,
            ask(
                answer,
                f"Which is {more}, {{one}} or {{other}}?",
                f"What is {more}, {{one}} or {{other}}?",
                f"Tell me which is {more}, {{one}} or {{other}}.",
                f"Name the {kind} that is {more}, {{one}} or {{other}}.",
                f"Which {kind} is {more}, {{one}} or {{other}}?",
            ),
            _either_order,
        )
        for contents, answer, kind, more in (
            (_PAIRS, "{high}", "number", "larger"),
            (_PAIRS, "{low}", "number", "smaller"),
            (_SIZE_PAIRS, "{high}", "animal", "bigger"),
            (_SIZE_PAIRS, "{low}", "animal", "tinier"),
        )
    ),
    weight=1.5,
)

_UNITS = (
    ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000),
    ("centimetres", "millimetres", 10),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
    ("kilograms", "grams", 1000),
    ("euros", "cents", 100),
)

units = Family(
    "units",
    (
        Task(
            tuple(
                {"count": str(n), "big": big, "small": small, "answer": str(n * step)}
                for big, small, step in _UNITS
                for n in range(2, 7)
            ),
            ask(
                "{answer}",
                "How many {small} are {count} {big}?",
                "Turn {count} {big} into {small}.",
                "Say how many {small} {count} {big} are.",
                "Give {count} {big} in {small}.",
                "How many {small} are there in {count} {big}?",
                "Write {count} {big} in {small}.",
            ),
        ),
    ),
)
